"""Hostile, damaged and ordinary archives and folders."""

import copy
import gzip
import io
import os
import random
import stat
import tarfile
import tracemalloc
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
    Member,
    archive_members,
    file_member,
    open_zip,
    read_member,
    sha256_member,
    store,
)
from tests.unit.data.toy_dataset import write_zip

UNSAFE = [
    *("../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "a\\b.png"),
    *("C:/evil.png", "a//b.png", "a/./b.png", "a\nb.png"),
]


def write_tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            content = member.name.encode() * 1000 if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def stored(target: Path, *sources: tuple[Member, ...], folder: str = "") -> dict[str, bytes]:
    """Store members in a zip; return its content."""
    with ZipFile(target, "w") as archive:
        for members in sources:
            store(archive, members, folder)
    with open_zip(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", [*UNSAFE, "./../evil.png"])
def test_an_unsafe_path_is_refused(tmp_path: Path, name: str) -> None:
    zipped = write_zip(tmp_path / "a.zip", {"good.png": b"1", name: b"2"})
    tarred = write_tar(tmp_path / "a.tar", [tarfile.TarInfo(name)])
    with pytest.raises(DataError, match="so the archive is refused"):
        open_zip(zipped)
    with pytest.raises(DataError, match="so the archive is refused"):
        stored(tmp_path / "b.zip", archive_members(tarred))


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png@.exe": b"1"})
    path.write_bytes(path.read_bytes().replace(b"@", b"\0"))
    with pytest.raises(DataError, match="so the archive is refused"):
        open_zip(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_with_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("link.png")
    member.external_attr = (kind | 0o777) << 16
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match=r"link\.png is a link or device"):
        open_zip(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_tar_with_a_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("special.png")
    member.type, member.linkname = kind, "x.png"
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo("x.png"), member])
    with pytest.raises(DataError, match=r"special\.png is a link, device"):
        stored(tmp_path / "a.zip", archive_members(source))


@pytest.mark.parametrize(
    ("offset", "value", "message"), [(8, 1, "encrypted"), (10, 9, "packed by method 9")]
)
def test_a_zip_that_cannot_be_read_is_refused(
    tmp_path: Path, offset: int, value: int, message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.png": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value  # in the table of contents
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.png is {message}"):
        open_zip(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.png", "1")
        archive.writestr("x.png", "2")
    with pytest.raises(DataError, match=r"x\.png is there twice"):
        open_zip(tmp_path / "a.zip")
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo("x"), tarfile.TarInfo("./x")])
    with pytest.raises(DataError, match="x is there twice"):
        stored(tmp_path / "b.zip", archive_members(source))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_zip(tmp_path / "a.zip", {"a": bytes(600), "b": bytes(600)})
    tarred = write_tar(tmp_path / "a.tar", [tarfile.TarInfo("x")])
    with monkeypatch.context() as patched:
        patched.setattr(archives, "MAX_UNPACKED_BYTES", 1200)
        open_zip(plain).close()
        patched.setattr(archives, "MAX_UNPACKED_BYTES", 999)
        with pytest.raises(DataError, match="decompression bomb"):
            open_zip(plain)
        with pytest.raises(DataError, match="decompression bomb"):
            stored(tmp_path / "b.zip", archive_members(tarred))
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", 2**20)
    dense, overlapping = tmp_path / "dense.zip", tmp_path / "overlapping.zip"
    with ZipFile(dense, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(4 * 2**20))
    with ZipFile(overlapping, "w") as archive:
        archive.writestr("0.bin", random.Random(0).randbytes(100_000))
        for number in range(1, 500):  # all of them are the same place in the file
            again = copy.copy(archive.filelist[0])
            again.filename = again.orig_filename = f"{number}.bin"
            archive.filelist.append(again)
    for path in (dense, overlapping):
        with pytest.raises(DataError, match="decompression bomb"):
            open_zip(path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", {"a/x.png": b"12345", "a/y.png": b"6"}).read_bytes()
    cut = tmp_path / "cut.zip"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match="no readable zip"):
            open_zip(cut)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_tar_is_noticed(tmp_path: Path, mode: str) -> None:
    source = write_tar(tmp_path / "a.tar", [tarfile.TarInfo(f"{n}.png") for n in range(9)], mode)
    whole = source.read_bytes()
    for share in (0.2, 0.5, 0.6):
        source.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="no readable tar"):
            stored(tmp_path / "a.zip", archive_members(source))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_a_data_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = {"a/x.png": bytes(range(50)), "a/y.png": b"6" * 50}
    file = io.BytesIO()
    with ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
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
def test_a_damaged_member_is_named(
    tmp_path: Path, read: Callable[[zipfile.ZipFile, str], object]
) -> None:
    path = write_zip(tmp_path / "a.zip", {"x.png": b"abcdef"})
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"abcdeg"))
    with open_zip(path) as archive, pytest.raises(DataError, match=r"a\.zip: x\.png is damaged"):
        read(archive, "x.png")
    with pytest.raises(DataError, match=r"a\.zip: x\.png is damaged"):
        stored(tmp_path / "b.zip", archive_members(path))


def test_members_of_several_archives_are_stored_below_their_folders(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"x.png": b"1"})
    deflated = tmp_path / "deflated.zip"
    with ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ü/\u4e2d.png", b"2" * 9999)
        archive.mkdir("empty")
        archive.write(inner, "inner.zip")
    sources = (archive_members(deflated), file_member(inner, "plain.npz"))
    assert stored(tmp_path / "all.zip", *sources, folder="first") == {
        "first/ü/\u4e2d.png": b"2" * 9999,
        "first/inner.zip": inner.read_bytes(),  # an archive in an archive is a file
        "first/plain.npz": inner.read_bytes(),
    }


def test_a_tar_is_stored_alike_from_any_compression(tmp_path: Path) -> None:
    expected = {"a/x.png": b"./a/x.png" * 1000, "a/ü.png": "a/ü.png".encode() * 1000}
    results = set()
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        members = [folder, tarfile.TarInfo("./a/x.png"), tarfile.TarInfo("a/ü.png")]
        source = write_tar(tmp_path / "a.tar", members, mode)
        assert stored(tmp_path / "a.zip", archive_members(source)) == expected
        results.add((tmp_path / "a.zip").read_bytes())
    assert len(results) == 1


def make_folder(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_is_stored_alike_wherever_and_whenever(tmp_path: Path) -> None:
    names = ["train/b.png", "train/a.png", "train/a/z.png", "test/c.png"]
    one = make_folder(tmp_path / "one", names)
    two = make_folder(tmp_path / "two", [*reversed(names), ".DS_Store", "__MACOSX/train/._a.png"])
    os.utime(two / "train/a.png", (1, 1))
    (two / "test/c.png").chmod(0o600)
    for folder in (one, two):
        content = stored(folder.with_suffix(".zip"), archive_members(folder))
        assert list(content.items()) == [(name, name.encode()) for name in sorted(names)]
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("target", ["a.png", "sub", "nowhere"])
def test_a_folder_with_a_link_is_refused(tmp_path: Path, target: str) -> None:
    folder = make_folder(tmp_path / "folder", ["a.png", "sub/b.png"])
    (folder / "link").symlink_to(target)
    with pytest.raises(DataError, match="is a link"):
        stored(tmp_path / "a.zip", archive_members(folder))


def test_a_folder_with_a_pipe_or_nothing_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", [".hidden"])
    with pytest.raises(DataError, match="holds no files"):
        stored(tmp_path / "a.zip", archive_members(folder))
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        stored(tmp_path / "a.zip", archive_members(folder))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_without_end_in_a_tar_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """A few megabytes of gzip hold gigabytes of such a header, which tarfile reads at once."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**26
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size))
    tracemalloc.start()
    with pytest.raises(DataError, match="no readable tar"):
        list(archive_members(tmp_path / "a.tar.gz"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**23


def test_long_names_in_a_tar_are_read(tmp_path: Path) -> None:
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        name = "/".join(["n" * 90] * 5)
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
            tar.addfile(tarfile.TarInfo(name))
        assert [member[0] for member in archive_members(tmp_path / "a.tar")] == [name]
