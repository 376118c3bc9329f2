import hashlib
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json
from aeflow.data.archives import open_zip
from aeflow.data.fetch import fetch_dataset, fetch_file
from aeflow.data.sources import replaced_files
from aeflow.study.cards import DatasetCard, SourceFile
from tests.unit.data.fetching import QUICK, Fault, Server, card_of, left, sha256

WriteZip = Callable[[Path, dict[str, bytes]], Path]
MEMBERS = {"toy/train/good/a.png": b"a" * 5000, "toy/test/good/b.png": b"b" * 5000}


def pinned(source: Path, url: str | None) -> SourceFile:
    return SourceFile(
        name="toy.zip",
        urls=[url] if url else [],
        sha256=sha256(source),
        size_bytes=source.stat().st_size,
    )


def fetch_archive(file: SourceFile, destination: Path, mirror: str | None) -> dict[str, Any]:
    return fetch(card_of(file), destination, mirror)


def fetch(
    card: DatasetCard, destination: Path, mirror: str | None, source: str | None = None
) -> dict[str, Any]:
    path = destination.parent.parent / "manifest.json"
    manifest = fetch_dataset(card, destination, path, mirror, source, patience=QUICK)
    assert manifest == read_json(path)
    return manifest


def replaced_archive(source: str, sha256: str | None) -> SourceFile:
    [file] = replaced_files(card_of(SourceFile(name="toy.tar")), source, sha256)
    return file


def test_local_file_is_copied_and_described(source: Path, destination: Path) -> None:
    before = source.stat()
    manifest = fetch_archive(pinned(source, str(source)), destination, None)
    file = {"name": "toy.zip", "sha256": sha256(source), "size_bytes": before.st_size}
    assert manifest == {"files": [file], "placed_sha256": sha256(destination)}
    assert destination.read_bytes() == source.read_bytes()
    assert destination.stat().st_ino != before.st_ino
    assert source.stat() == before
    assert left(destination) == ["images.zip"]


def test_every_way_to_the_same_bytes_gives_the_same_manifest(
    source: Path, destination: Path, server: Server
) -> None:
    server.files["/some/toy.zip"] = source.read_bytes()
    web, file = f"{server.url}/some/toy.zip", source.as_uri()
    ways = [
        (pinned(source, web), None),
        (pinned(source, file), None),
        (pinned(source, None), f"{server.url}/some/"),
        (pinned(source, None), str(source.parent)),
        (pinned(source, None), source.parent.as_uri()),
        (replaced_archive(str(source), None), None),
        (replaced_archive(f"{web}?download=1", None), None),
    ]
    manifests = [fetch_archive(archive, destination, mirror) for archive, mirror in ways]
    assert all(manifest == manifests[0] for manifest in manifests)
    assert destination.read_bytes() == source.read_bytes()


def test_mirror_comes_first(source: Path, destination: Path, server: Server) -> None:
    server.files["/toy.zip"] = source.read_bytes()
    fetch_archive(pinned(source, f"{server.url}/toy.zip"), destination, str(source.parent))
    assert server.asked == []


def test_next_source_is_tried(source: Path, destination: Path, server: Server) -> None:
    server.files["/official/toy.zip"] = source.read_bytes()
    archive = pinned(source, f"{server.url}/official/toy.zip")
    fetch_archive(archive, destination, f"{server.url}/mirror")
    assert server.asked == ["/mirror/toy.zip", "/official/toy.zip"]
    assert destination.read_bytes() == source.read_bytes()


def test_corrupt_mirror_is_passed_over(
    source: Path, destination: Path, server: Server, write_zip: WriteZip, tmp_path: Path
) -> None:
    other = write_zip(tmp_path / "toy.zip", {**MEMBERS, "toy/test/good/b.png": b"c" * 5000})
    assert other.stat().st_size == source.stat().st_size
    server.files["/toy.zip"] = source.read_bytes()
    fetch_archive(pinned(source, f"{server.url}/toy.zip"), destination, str(tmp_path))
    assert destination.read_bytes() == source.read_bytes()


def test_all_failures_and_the_way_out_are_told(
    source: Path, destination: Path, server: Server, tmp_path: Path
) -> None:
    archive = pinned(source, f"{server.url}/gone.zip")
    with pytest.raises(DataError) as caught:
        fetch_archive(archive, destination, str(tmp_path / "mirror"))
    message = str(caught.value)
    assert f"{tmp_path}/mirror/toy.zip: there is no such file" in message
    assert f"{server.url}/gone.zip: the server answered with status 404" in message
    assert f"({archive.size_bytes} bytes, sha256 {archive.sha256})" in message
    assert f"by hand from {server.url}/gone.zip" in message
    assert "AEFLOW_MIRROR=" in message
    assert "\n" not in message
    assert left(destination) == []


def test_wrong_checksum_tells_both_and_leaves_nothing(source: Path, destination: Path) -> None:
    archive = SourceFile(name="toy.zip", urls=[str(source)], sha256="0" * 64, size_bytes=None)
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, got {sha256(source)}"):
        fetch_archive(archive, destination, None)
    assert left(destination) == []
    assert source.is_file()


def test_wrong_checksum_leaves_an_earlier_archive_alone(source: Path, destination: Path) -> None:
    fetch_archive(pinned(source, str(source)), destination, None)
    with pytest.raises(DataError):
        fetch_archive(replaced_archive(str(source), "0" * 64), destination, None)
    assert destination.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><title>Please log in</title>", "a web page"),
        (b"<HTML><body>Not found</body></HTML>", "a web page"),
        (b"plain words", "neither a zip nor a tar"),
        (b"", "neither a zip nor a tar"),
        (b"PK\x03\x04 and then nothing", "no readable zip"),
        (b"\x1f\x8b and then nothing", "no readable tar"),
    ],
)
def test_something_else_than_an_archive(
    destination: Path, server: Server, content: bytes, message: str
) -> None:
    server.files["/toy.zip"] = content
    with pytest.raises(DataError, match=message) as caught:
        fetch_archive(replaced_archive(f"{server.url}/toy.zip", None), destination, None)
    assert "\n" not in str(caught.value)
    assert left(destination) == []


def test_cut_off_file_is_noticed_without_a_checksum(source: Path, destination: Path) -> None:
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(DataError, match="no readable zip"):
        fetch_archive(replaced_archive(str(source), None), destination, None)
    size = source.stat().st_size
    archive = SourceFile(name="toy.zip", urls=[str(source)], sha256=None, size_bytes=size + 30)
    with pytest.raises(DataError, match=f"{size} bytes instead of {size + 30}: it was cut off"):
        fetch_archive(archive, destination, None)
    assert left(destination) == []


def test_unsafe_archive_is_not_placed(
    destination: Path, write_zip: WriteZip, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "toy.zip", {"../../evil.png": b"x"})
    with pytest.raises(DataError, match="unsafe"):
        fetch_archive(replaced_archive(str(path), None), destination, None)
    assert left(destination) == []


def test_tar_becomes_a_zip(destination: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    with tarfile.open(tmp_path / "toy.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "a.png", "toy/train/good/a.png")
    manifest = fetch_archive(
        replaced_archive(str(tmp_path / "toy.tar.gz"), None), destination, None
    )
    [file] = manifest["files"]
    assert file["name"] == "toy.tar.gz"
    assert file["sha256"] == sha256(tmp_path / "toy.tar.gz")
    assert manifest["placed_sha256"] == sha256(destination) != file["sha256"]


def test_folder_becomes_a_zip(destination: Path, source: Path) -> None:
    manifest = fetch_archive(replaced_archive(str(source.parent), None), destination, None)
    [file] = manifest["files"]
    assert file["name"] == "user"
    assert file["sha256"] == manifest["placed_sha256"] == sha256(destination)
    again = fetch_archive(
        replaced_archive(source.parent.as_uri(), sha256(destination)), destination, None
    )
    assert again == manifest


def test_any_file_and_the_beginning_of_a_checksum(destination: Path, server: Server) -> None:
    server.files["/weights.pth"] = b"not an archive"
    digest = hashlib.sha256(b"not an archive").hexdigest()
    file = SourceFile(name="weights.pth", urls=[f"{server.url}/weights.pth"], sha256=digest[:8])
    manifest = fetch_file(file, destination, None, QUICK)
    assert manifest == {"name": "weights.pth", "sha256": digest, "size_bytes": 14}
    assert destination.read_bytes() == b"not an archive"


def test_file_of_an_installed_package(destination: Path) -> None:
    file = SourceFile(name="py.typed", urls=["package:numpy/py.typed"])
    assert fetch_file(file, destination, None, QUICK)["size_bytes"] == 0
    missing = SourceFile(name="x", urls=["package:no_such_package_here/x"])
    with pytest.raises(DataError, match="package no_such_package_here is not installed"):
        fetch_file(missing, destination, None, QUICK)


def test_no_source_at_all(destination: Path) -> None:
    archive = SourceFile(name="toy.zip", sha256="1" * 64, size_bytes=5)
    with pytest.raises(DataError, match=r"no source is known.*5 bytes, sha256 1111.*MIRROR"):
        fetch_archive(archive, destination, None)


def test_unknown_scheme(destination: Path) -> None:
    with pytest.raises(DataError, match="scheme s3 is not supported"):
        fetch_archive(replaced_archive("s3://bucket/toy.zip", None), destination, None)


def test_secrets_of_an_address_are_not_told(
    destination: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("//", "//user:secret1@") + "/gone.zip?token=secret2"
    with caplog.at_level("INFO"), pytest.raises(DataError) as caught:
        fetch_archive(replaced_archive(url, None), destination, url)
    assert server.asked == ["/gone.zip", "/gone.zip"]
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text


def test_name_of_a_replaced_source(tmp_path: Path) -> None:
    assert replaced_archive("https://x.org/a/b%20c.zip?x=1", None).name == "b_20c.zip"
    assert replaced_archive(f"{tmp_path}/my images/", None).name == "my_images"


def test_generated_archive(
    destination: Path,
    write_zip: WriteZip,
    make_card: Callable[..., DatasetCard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = types.ModuleType("demo_textures")
    generator.write_demo_textures = lambda path: write_zip(path, MEMBERS)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aeflow.data.demo_textures", generator)
    card = make_card().model_copy(update={"files": [], "generator": "demo_textures"})
    manifest = fetch(card, destination, None)
    assert manifest == {"files": [], "placed_sha256": sha256(destination)}


def test_several_files_become_one_zip(tmp_path: Path, destination: Path, source: Path) -> None:
    with tarfile.open(tmp_path / "labels.tar.gz", "w:gz") as tar:
        tar.add(source, "sub/toy.zip")
    (tmp_path / "train.npz").write_bytes(source.read_bytes())
    names = ["toy.zip", "labels.tar.gz", "train.npz"]
    card = card_of(*(SourceFile(name=name) for name in names))
    (tmp_path / "toy.zip").write_bytes(source.read_bytes())
    expected = {f"toy/{name}": content for name, content in MEMBERS.items()}
    expected |= {"labels/sub/toy.zip": source.read_bytes(), "train.npz": source.read_bytes()}
    for mirror, replaced in ((str(tmp_path), None), (None, str(tmp_path))):
        manifest = fetch(card, destination, mirror, replaced)
        assert [file["name"] for file in manifest["files"]] == names
        with open_zip(destination) as placed:
            assert {name: placed.read(name) for name in placed.namelist()} == expected
        assert left(destination) == ["images.zip"]


def test_a_plain_file_is_kept_whole(tmp_path: Path, destination: Path, source: Path) -> None:
    (tmp_path / "small_64.npz").write_bytes(source.read_bytes())
    fetch(card_of(SourceFile(name="small_64.npz")), destination, str(tmp_path))
    with open_zip(destination) as placed:
        assert placed.namelist() == ["small_64.npz"]
        assert placed.read("small_64.npz") == source.read_bytes()


def test_a_plain_file_of_another_name_becomes_the_cards_member(
    tmp_path: Path, destination: Path, source: Path
) -> None:
    (tmp_path / "download.npz").write_bytes(source.read_bytes())
    card = card_of(SourceFile(name="small_64.npz", sha256="0" * 64))
    fetch(card, destination, None, str(tmp_path / "download.npz"))
    with open_zip(destination) as placed:
        assert placed.namelist() == ["small_64.npz"]


def test_one_checksum_cannot_be_that_of_several_files(tmp_path: Path, source: Path) -> None:
    card = card_of(SourceFile(name="toy.zip"), SourceFile(name="other.zip"))
    (source.parent / "other.zip").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="holds the 2 files of toy, so that one sha256 cannot"):
        replaced_files(card, str(source.parent), "0" * 64)


def test_a_web_page_of_a_later_source_does_not_hide_the_first(
    source: Path, destination: Path, server: Server
) -> None:
    server.faults["/toy.zip"] = [Fault(page=True)]
    urls = [f"{server.url}/gone.zip", f"{server.url}/toy.zip"]
    with pytest.raises(
        DataError, match=r"gone\.zip: .* status 404; .*toy\.zip: this is a web page"
    ):
        fetch(card_of(SourceFile(name="toy.zip", urls=urls)), destination, None)
    server.files["/toy.zip"] = source.read_bytes()
    fetch(card_of(SourceFile(name="toy.zip", urls=urls)), destination, None)
    assert destination.read_bytes() == source.read_bytes()


def test_md5_where_the_source_publishes_no_other(source: Path, destination: Path) -> None:
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    fetch_archive(SourceFile(name="toy.zip", urls=[str(source)], md5=md5), destination, None)
    wrong = SourceFile(name="toy.zip", urls=[str(source)], md5="0" * 32)
    with pytest.raises(DataError, match=f"expected md5 {'0' * 32}, got {md5}"):
        fetch_archive(wrong, destination, None)
