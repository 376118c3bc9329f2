import copy
import io
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeflow.core.errors import DataError
from aeflow.data import archives
from aeflow.data.archives import (
    add_file,
    add_tar,
    add_zip,
    open_zip,
    pack_folder,
    read_member,
    sha256_member,
)

WriteZip = Callable[[Path, dict[str, bytes]], Path]
UNSAFE = [
    "../evil.png",
    "/etc/evil.png",
    "a/../../evil.png",
    "..\\evil.png",
    "a\\b.png",
    "C:/evil.png",
    "a//b.png",
    "a/./b.png",
    "a\nb.png",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_zip_with_unsafe_path_is_refused(tmp_path: Path, write_zip: WriteZip, name: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png": b"1", name: b"2"})
    with pytest.raises(DataError, match="unsafe"):
        open_zip(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_zip_with_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("link.png")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match=r"link\.png is a link or device"):
        open_zip(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("offset", "value", "message"), [(8, 1, "encrypted"), (10, 9, "packed by method 9")]
)
def test_zip_that_cannot_be_read_is_refused(
    tmp_path: Path, write_zip: WriteZip, offset: int, value: int, message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.png": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value  # in the table of contents
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.png is {message}"):
        open_zip(path)


def test_zip_with_nul_in_name_is_refused(tmp_path: Path, write_zip: WriteZip) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png@.exe": b"1"})
    path.write_bytes(path.read_bytes().replace(b"@", b"\0"))
    with pytest.raises(DataError, match="unsafe"):
        open_zip(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_duplicate_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.png", "1")
        archive.writestr("x.png", "2")
    with pytest.raises(DataError, match=r"x\.png is there twice"):
        open_zip(tmp_path / "a.zip")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", 2**20)
    dense, overlapping = tmp_path / "dense.zip", tmp_path / "overlapping.zip"
    with zipfile.ZipFile(dense, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(4 * 2**20))
    with zipfile.ZipFile(overlapping, "w") as archive:
        archive.writestr("0.bin", random.Random(0).randbytes(100_000))
        for number in range(1, 500):  # all of them are the same place in the file
            again = copy.copy(archive.filelist[0])
            again.filename = again.orig_filename = f"{number}.bin"
            archive.filelist.append(again)
    for path in (dense, overlapping):
        with pytest.raises(DataError, match="decompression bomb"):
            open_zip(path)


def test_size_limit(tmp_path: Path, write_zip: WriteZip) -> None:
    path = write_zip(tmp_path / "a.zip", {"a": bytes(600), "b": bytes(600)})
    open_zip(path, max_bytes=1200).close()
    with pytest.raises(DataError, match="decompression bomb"):
        open_zip(path, max_bytes=1199)


def test_every_truncation_is_noticed(tmp_path: Path, write_zip: WriteZip) -> None:
    whole = write_zip(tmp_path / "a.zip", {"a/x.png": b"12345", "a/y.png": b"6"}).read_bytes()
    cut = tmp_path / "cut.zip"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match="no readable zip"):
            open_zip(cut)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_a_data_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = {"a/x.png": bytes(range(50)), "a/y.png": b"6" * 50}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(damaged)
    try:
        with open_zip(path) as archive:
            found = {name: read_member(archive, name) for name in archive.namelist()}
    except DataError:
        return
    assert set(found.values()) <= {b"", *content.values()}  # the CRC vouches for what is read


@pytest.mark.parametrize("read", [read_member, sha256_member])
def test_damaged_member_is_named(
    tmp_path: Path, write_zip: WriteZip, read: Callable[[zipfile.ZipFile, str], object]
) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.png": b"abcdef"})
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"abcdeg"))
    with open_zip(path) as archive, pytest.raises(DataError, match=r"x\.png is damaged"):
        read(archive, "x.png")


def test_members_of_several_zips_are_stored_below_their_folders(
    tmp_path: Path, write_zip: WriteZip
) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"x.png": b"1"})
    deflated = tmp_path / "deflated.zip"
    with ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ü/\u4e2d.png", b"2" * 9999)
        archive.mkdir("empty")
        archive.write(inner, "inner.zip")
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        add_zip(archive, deflated, "first")
        add_zip(archive, inner, "")
        add_file(archive, inner, "plain.npz")
    with open_zip(tmp_path / "all.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "first/ü/\u4e2d.png": b"2" * 9999,
            "first/inner.zip": inner.read_bytes(),  # an archive in an archive is a file
            "x.png": b"1",
            "plain.npz": inner.read_bytes(),
        }


def test_unsafe_or_damaged_members_are_not_stored(tmp_path: Path, write_zip: WriteZip) -> None:
    unsafe = write_zip(tmp_path / "unsafe.zip", {"a.png": b"1", "../evil.png": b"2"})
    damaged = write_zip(tmp_path / "damaged.zip", {"x.png": b"abcdef"})
    damaged.write_bytes(damaged.read_bytes().replace(b"abcdef", b"abcdeg"))
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        with pytest.raises(DataError, match="unsafe"):
            add_zip(archive, unsafe, "folder")
        assert archive.namelist() == []
        with pytest.raises(DataError, match=r"damaged\.zip: x\.png is damaged"):
            add_zip(archive, damaged, "folder")


def repack_tar(source: Path, target: Path, max_bytes: int = 10**6) -> None:
    with ZipFile(target, "w") as archive:
        add_tar(archive, source, "", max_bytes)


def write_tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            content = member.name.encode() * 1000 if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_tar_is_repacked_alike_from_any_compression(tmp_path: Path) -> None:
    expected = {"a/x.png": b"./a/x.png" * 1000, "a/ü.png": "a/ü.png".encode() * 1000}
    results = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        members = [folder, tarfile.TarInfo("./a/x.png"), tarfile.TarInfo("a/ü.png")]
        source = write_tar(tmp_path / "a.tar", members, mode)
        repack_tar(source, tmp_path / "a.zip")
        with open_zip(tmp_path / "a.zip") as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == expected
        results.append((tmp_path / "a.zip").read_bytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("name", [*UNSAFE, "./../evil.png"])
def test_tar_with_unsafe_path_is_refused(tmp_path: Path, name: str) -> None:
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo(name)])
    with pytest.raises(DataError, match="unsafe"):
        repack_tar(source, tmp_path / "a.zip")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_tar_with_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("special.png")
    member.type, member.linkname = kind, "x.png"
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo("x.png"), member])
    with pytest.raises(DataError, match=r"special\.png is a link, device"):
        repack_tar(source, tmp_path / "a.zip")


def test_tar_with_duplicate_or_too_large_is_refused(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo("x"), tarfile.TarInfo("./x")])
    with pytest.raises(DataError, match="x is there twice"):
        repack_tar(source, tmp_path / "a.zip")
    with pytest.raises(DataError, match="decompression bomb"):
        repack_tar(source, tmp_path / "a.zip", 999)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_truncated_tar_is_noticed(tmp_path: Path, mode: str) -> None:
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo(f"{n}.png") for n in range(9)], mode)
    whole = source.read_bytes()
    for share in (0.2, 0.5, 0.6):
        source.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="no readable tar"):
            repack_tar(source, tmp_path / "a.zip")


def make_folder(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_folder_is_packed_alike_wherever_and_whenever(tmp_path: Path) -> None:
    names = ["train/b.png", "train/a.png", "train/a/z.png", "test/c.png"]
    one = make_folder(tmp_path / "one", names)
    two = make_folder(tmp_path / "two", [*reversed(names), ".DS_Store", "__MACOSX/train/._a.png"])
    os.utime(two / "train/a.png", (1, 1))
    (two / "test/c.png").chmod(0o600)
    pack_folder(one, tmp_path / "one.zip")
    pack_folder(two, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with open_zip(tmp_path / "one.zip") as archive:
        assert archive.namelist() == sorted(names)
        assert all(archive.read(name) == name.encode() for name in names)
        assert archive.testzip() is None


@pytest.mark.parametrize("target", ["a.png", "sub", "nowhere"])
def test_folder_with_link_is_refused(tmp_path: Path, target: str) -> None:
    folder = make_folder(tmp_path / "folder", ["a.png", "sub/b.png"])
    (folder / "link").symlink_to(target)
    with pytest.raises(DataError, match="is a link"):
        pack_folder(folder, tmp_path / "a.zip")


def test_folder_with_pipe_or_nothing_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", [".hidden"])
    with pytest.raises(DataError, match="holds no files"):
        pack_folder(folder, tmp_path / "a.zip")
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        pack_folder(folder, tmp_path / "a.zip")
