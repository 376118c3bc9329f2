"""From a card's files, a mirror or a user's own source to one zip, whatever goes wrong."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import AccessError, ConfigError, DataError
from aeflow.core.job import script
from aeflow.data.archives import open_zip
from aeflow.data.download import TOLD
from aeflow.data.fetch import fetch_dataset, fetch_file, replaced_files
from aeflow.study.cards import DatasetCard, SourceFile
from tests.unit.data.faulty_server import QUICK, Fault, Server
from tests.unit.data.processes import on_small_disk, run, start
from tests.unit.data.toy_dataset import MEMBERS, left, make_card, sha256, write_zip

RECORD = Path("config/checksums/toy.json")


def pinned(source: Path, *urls: str) -> SourceFile:
    size = source.stat().st_size
    return SourceFile(name=source.name, urls=list(urls), sha256=sha256(source), size_bytes=size)


def fetch(
    of: DatasetCard | SourceFile, destination: Path, mirror: Any = None, **options: Any
) -> dict[str, Any]:
    """Fetch the files of a card, or one file."""
    card = of if isinstance(of, DatasetCard) else make_card(of)
    where = None if mirror is None else str(mirror)
    return fetch_dataset(card, destination, where, patience=QUICK, **options)


def fetch_own(source: object, destination: Path, digest: str | None = None) -> dict[str, Any]:
    """Fetch what a user's configuration names instead of the card's file."""
    return fetch(
        SourceFile(name="toy.tar", sha256="0" * 64),
        destination,
        source=str(source),
        sha256=digest,
    )


def test_a_local_file_is_copied_and_described(source: Path, destination: Path) -> None:
    before = source.stat()
    facts = fetch(pinned(source, str(source)), destination)
    file = {"name": "toy.zip", "sha256": sha256(source), "size_bytes": before.st_size}
    assert facts == {"files": [file], "sha256": {"archive": sha256(destination)}}
    assert destination.read_bytes() == source.read_bytes()
    assert destination.stat().st_ino != before.st_ino
    assert source.stat() == before
    assert left(destination) == ["images.zip"]


def test_every_way_to_the_same_bytes_gives_the_same_facts(
    source: Path, destination: Path, server: Server
) -> None:
    server.files["/some/toy.zip"] = source.read_bytes()
    web = f"{server.url}/some/toy.zip"
    found = [
        fetch(pinned(source, web), destination),
        fetch(pinned(source, source.as_uri()), destination),
        fetch(pinned(source, "user/toy.zip"), destination),  # as from the repository's root
        fetch(pinned(source), destination, f"{server.url}/some/"),
        fetch(pinned(source), destination, source.parent),
        fetch(pinned(source), destination, source.parent.as_uri()),
        fetch_own(source, destination),
        fetch_own(web, destination),
    ]
    assert all(facts == found[0] for facts in found)
    assert destination.read_bytes() == source.read_bytes()


def test_a_mirror_comes_first_and_the_next_source_where_it_has_no_right_file(
    source: Path,
    destination: Path,
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.files["/official/toy.zip"] = server.files["/toy.zip"] = source.read_bytes()
    file = pinned(source, f"{server.url}/official/toy.zip")
    fetch(file, destination, source.parent)
    assert server.asked == []
    fetch(file, destination, server.url)
    assert server.asked == ["/toy.zip"]
    with caplog.at_level(TOLD):
        fetch(file, destination, f"{server.url}/mirror")
    [record] = caplog.records
    assert record.levelno == TOLD < logging.WARNING  # nothing is wrong with what came
    assert "status 404" in record.getMessage()
    assert server.asked[1:] == ["/mirror/toy.zip", "/official/toy.zip"]
    other = write_zip(tmp_path / "toy.zip", {**MEMBERS, "toy/test/good/b.png": b"c" * 5000})
    assert other.stat().st_size == source.stat().st_size
    fetch(file, destination, tmp_path)
    assert destination.read_bytes() == source.read_bytes()


def test_all_failures_and_the_way_out_are_told(
    source: Path, destination: Path, server: Server, tmp_path: Path
) -> None:
    file = pinned(source, f"{server.url}/gone.zip", f"{server.url}/page.zip")
    server.faults["/page.zip"] = [Fault(page=True)]
    with pytest.raises(DataError) as caught:
        fetch(file, destination, tmp_path / "mirror")
    message = str(caught.value)
    assert f"{tmp_path}/mirror/toy.zip: there is no such file" in message
    assert f"{server.url}/gone.zip: the server answered with status 404" in message
    assert f"{server.url}/page.zip: this is a web page" in message
    assert f"({file.size_bytes} bytes, sha256 {file.sha256})" in message
    assert f"by hand from {server.url}/gone.zip" in message
    assert "AEFLOW_MIRROR=" in message
    assert "\n" not in message
    assert left(destination) == []
    with pytest.raises(DataError, match=r"no source is known.*bytes, sha256 .*MIRROR"):
        fetch(pinned(source), destination)
    with pytest.raises(ConfigError, match=r"source: a URL begins with http://, https:// or file"):
        fetch_own("s3://bucket/toy.zip", destination)


def test_a_wrong_checksum_tells_both_and_leaves_an_earlier_archive_alone(
    source: Path, destination: Path
) -> None:
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    for kind, right in (("sha256", sha256(source)), ("md5", md5)):
        where = {"name": "toy.zip", "urls": [str(source)]}
        wrong = SourceFile.model_validate(where | {kind: "0" * len(right)})
        with pytest.raises(DataError, match=f"expected {kind} {'0' * len(right)}, got {right}"):
            fetch(wrong, destination)
        assert left(destination) == []
    fetch(SourceFile(name="toy.zip", urls=[str(source)], md5=md5), destination)
    with pytest.raises(DataError, match="expected sha256"):
        fetch_own(source, destination, "0" * 64)
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
        fetch_own(f"{server.url}/toy.zip", destination)
    assert "\n" not in str(caught.value)
    assert left(destination) == []


def test_a_cut_off_or_unsafe_file_is_not_placed(source: Path, destination: Path) -> None:
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(DataError, match="no readable zip"):
        fetch_own(source, destination)
    size = source.stat().st_size
    file = SourceFile(name="toy.zip", urls=[str(source)], size_bytes=size + 30)
    with pytest.raises(DataError, match=f"{size} bytes instead of {size + 30}: it was cut off"):
        fetch(file, destination)
    with pytest.raises(DataError, match="unsafe"):
        fetch_own(write_zip(source, {"../../evil.png": b"x"}), destination)
    assert left(destination) == []


def test_a_tar_or_a_folder_becomes_a_zip(source: Path, destination: Path, tmp_path: Path) -> None:
    tarred = tmp_path / "toy.tar.gz"
    with tarfile.open(tarred, "w:gz") as tar:
        tar.add(source, "toy/train/good/a.png")
    facts = fetch_own(tarred, destination)
    described = {"name": "toy.tar.gz", "sha256": sha256(tarred)}
    assert facts == {"files": [described | {"size_bytes": tarred.stat().st_size}]}
    with open_zip(destination) as placed:
        assert placed.namelist() == ["toy/train/good/a.png"]
    facts = fetch_own(source.parent, destination)
    [file] = facts["files"]
    assert file["name"] == "user"
    assert file["sha256"] == facts["sha256"]["archive"] == sha256(destination)
    assert fetch_own(source.parent.as_uri(), destination, sha256(destination)) == facts


def test_several_files_become_one_zip(tmp_path: Path, destination: Path, source: Path) -> None:
    with tarfile.open(tmp_path / "labels.tar.gz", "w:gz") as tar:
        tar.add(source, "sub/toy.zip")
    (tmp_path / "train.npz").write_bytes(source.read_bytes())
    (tmp_path / "toy.zip").write_bytes(source.read_bytes())
    names = ["toy.zip", "labels.tar.gz", "train.npz"]
    card = make_card(*(SourceFile(name=name) for name in names))
    expected = {f"toy/{name}": content for name, content in MEMBERS.items()}
    expected |= {"labels/sub/toy.zip": source.read_bytes(), "train.npz": source.read_bytes()}
    for options in ({"mirror": tmp_path}, {"source": str(tmp_path)}):
        facts = fetch(card, destination, **options)
        assert [file["name"] for file in facts["files"]] == names
        assert "sha256" not in facts
        with open_zip(destination) as placed:
            assert {name: placed.read(name) for name in placed.namelist()} == expected
        assert left(destination) == ["images.zip"]
    with pytest.raises(ConfigError, match="holds the 3 files of toy, so that one sha256 cannot"):
        replaced_files(card, str(tmp_path), "0" * 64)


def test_a_download_waits_for_the_other_files(
    source: Path, destination: Path, server: Server, tmp_path: Path
) -> None:
    server.files["/toy.zip"] = source.read_bytes()
    urls = [f"{server.url}/toy.zip"]
    card = make_card(SourceFile(name="toy.zip", urls=urls), SourceFile(name="more.zip"))
    partial = ".images.zip.toy.zip"
    for _ in range(2):
        with pytest.raises(DataError, match=r"Cannot get more\.zip"):
            fetch(card, destination)
        assert left(destination) == [partial, f"{partial}.json"]
    assert server.offsets == [0, source.stat().st_size]
    with pytest.raises(DataError, match=r"Cannot get more\.zip"):
        fetch(card, destination, source.parent)
    assert left(destination) == []  # a copy is no download that could go on


def test_a_plain_file_is_kept_whole_under_the_cards_name(
    tmp_path: Path, destination: Path, source: Path
) -> None:
    for name in ("small_64.npz", "download.npz"):
        (tmp_path / name).write_bytes(source.read_bytes())
    card = make_card(SourceFile(name="small_64.npz"))
    for options in ({"mirror": tmp_path}, {"source": str(tmp_path / "download.npz")}):
        fetch(card, destination, **options)
        with open_zip(destination) as placed:
            assert placed.namelist() == ["small_64.npz"]
            assert placed.read("small_64.npz") == source.read_bytes()


@pytest.mark.parametrize("name", ["lock", "files", "facts", "my images"])
def test_a_folder_may_be_called_as_it_likes(
    source: Path, destination: Path, tmp_path: Path, name: str
) -> None:
    source.parent.rename(tmp_path / name)
    [file] = fetch_own(f"{tmp_path / name}/", destination)["files"]
    assert file["name"] == name.replace(" ", "_")
    assert left(destination) == ["images.zip"]
    [file] = replaced_files(make_card(), "https://x.org/a/b%20c.zip", None)
    assert file.name == "b_20c.zip"


def test_any_file_and_the_beginning_of_a_checksum(destination: Path, server: Server) -> None:
    server.files["/weights.pth"] = b"not an archive"
    digest = hashlib.sha256(b"not an archive").hexdigest()
    file = SourceFile(name="weights.pth", urls=[f"{server.url}/weights.pth"], sha256=digest[:8])
    facts = fetch_file(file, destination, None, QUICK)
    assert facts == {"name": "weights.pth", "sha256": digest, "size_bytes": 14}
    assert destination.read_bytes() == b"not an archive"
    packaged = SourceFile(name="py.typed", urls=["package:numpy/py.typed"])
    assert fetch_file(packaged, destination, None, QUICK)["size_bytes"] == 0
    missing = SourceFile(name="x", urls=["package:no_such_package_here/x"])
    with pytest.raises(DataError, match="package no_such_package_here is not installed"):
        fetch_file(missing, destination, None, QUICK)


def test_secrets_of_an_address_are_not_told(
    destination: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("//", "//user:secret1@") + "/gone?token=secret2"
    card = make_card(SourceFile(name="toy.zip"))
    with caplog.at_level("INFO"), pytest.raises(DataError) as caught:
        fetch(card, destination, url)
    assert server.asked == ["/gone/toy.zip"]
    assert server.got == [(f"Basic {b64encode(b'user:secret1').decode()}", "token=secret2")]
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text


def test_a_missing_checksum_is_recorded_and_required(
    source: Path, destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_zip(source.parent / "labels.zip", {"labels.csv": b"1"})
    unknown = make_card(SourceFile(name="toy.zip"), pinned(source.parent / "labels.zip"))
    fetch(unknown, destination, source.parent)
    facts = {"sha256": sha256(source), "size_bytes": source.stat().st_size}
    assert json.loads(RECORD.read_text()) == {"toy.zip": facts}
    [first] = caplog.messages
    assert f"sha256 {facts['sha256']}, is required ({RECORD}: commit it" in first

    destination.unlink()  # neither a deleted archive nor another run forgets it
    fetch(unknown, destination, source.parent)
    assert caplog.messages == [first, first]
    destination.unlink()
    write_zip(source, {"toy/other.png": b"x"})
    message = r"bytes instead of .* that of the first download: delete config/checksums/toy\.json"
    with pytest.raises(DataError, match=message):
        fetch(unknown, destination, source.parent)
    assert left(destination) == []
    RECORD.unlink()
    fetch(unknown, destination, source=str(source.parent))
    assert not RECORD.exists()  # of an own source
    fetch(unknown, destination, source.parent)
    with open_zip(destination) as placed:
        assert placed.namelist() == ["toy/toy/other.png", "labels/labels.csv"]


REQUEST = make_card(
    SourceFile(name="asked.zip", size_bytes=10_354, md5="0" * 32),
    access="request",
    recipe=["Ask at https://example.org for access.", "Download the file called asked.zip."],
)


def test_a_dataset_that_has_to_be_asked_for_says_how(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr the recipe keeps its lines."""
    monkeypatch.setattr("sys.argv", ["fetch_data.py"])
    monkeypatch.setattr(logging, "raiseExceptions", True)  # as it was, afterwards
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(SystemExit) as caught:
        script(lambda _: fetch(REQUEST, destination, source.parent))
    assert str(caught.value.code).split("\n") == [
        "fetch_data.py: Toy cannot be downloaded without an account or a request "
        f"({source.parent}/asked.zip: there is no such file or folder). The rest of the study "
        "goes on.",
        "  1. Ask at https://example.org for access.",
        "  2. Download the file called asked.zip.",
        "  3. Put into one folder, under this name: asked.zip (10354 bytes, md5 "
        "00000000000000000000000000000000).",
        "  4. Run the same command again with AEFLOW_MIRROR=<that folder>, or give the dataset a "
        "`source` in your configuration: the file, the folder, or the folder it unpacks to.",
    ]
    assert left(destination) == []
    with pytest.raises(AccessError, match=r"\(AEFLOW_MIRROR is not set\)"):
        fetch(REQUEST, destination)
    fetch(REQUEST, destination, source=str(source))
    assert destination.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"access": "request"}, "access: request and a recipe belong together"),
        ({"recipe": ["Ask."]}, "access: request and a recipe belong together"),
        ({"files": [{"name": "a.zip"}, {"name": "a.tar.gz"}]}, "two files have the same name"),
    ],
)
def test_cards_that_make_no_sense(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_card(SourceFile(name="toy.zip"), **facts)


def test_a_card_without_files_needs_a_source(source: Path, destination: Path) -> None:
    with pytest.raises(ConfigError, match="toy names no files: give the dataset a `source`"):
        fetch(make_card(), destination, source.parent)
    fetch(make_card(), destination, source=str(source))
    assert destination.read_bytes() == source.read_bytes()


CHILD = """
import logging, os, resource, sys
from base64 import b64encode
from pathlib import Path
from aeflow.core.errors import DataError
from aeflow.data.download import Patience
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import SourceFile
from tests.unit.data.toy_dataset import make_card
source, limit, digest, destination = sys.argv[1:]
if limit == "files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
if limit == "root" and os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
logging.basicConfig(level="INFO")
card = make_card(SourceFile(name="toy.zip"))
try:
    fetch_dataset(card, Path(destination), None, source, digest or None, Patience(5, 20, (0,)))
except DataError as error:
    print(type(error).__name__, error)
"""


def child(source: object, limit: str, destination: Path, digest: str = "") -> list[str]:
    return [sys.executable, "-c", CHILD, str(source), limit, digest, str(destination)]


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        (2**21, "", r"NoSpaceError toy.zip needs 2.1 MB in "),
        (2**21, "w:gz", "DataError Cannot write "),  # nothing tells beforehand what it unpacks to
        (600_000, "w", "NoSpaceError The zip of toy.zip needs 0.6 MB in "),
    ],
)
def test_a_full_disk_is_a_sentence(tmp_path: Path, size: int, mode: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(bytes(size) if mode else os.urandom(size))
    source = tmp_path / "toy.zip"
    if mode:
        with tarfile.open(source, mode) as tar:  # type: ignore[call-overload]
            tar.add(tmp_path / "a.png", "a.png")
    else:
        write_zip(source, {"a.png": (tmp_path / "a.png").read_bytes()})
    (tmp_path / "child.py").write_text(CHILD)
    destination = tmp_path / "disk/raw/images.zip"
    command = f"{sys.executable} {tmp_path}/child.py {source} no '' {destination} 2> /dev/null"
    told = on_small_disk(tmp_path, 1, [command])
    assert told[0].startswith(message)
    assert "free some space and run the same command again" in told[0]
    assert told[1:] == []


def test_what_keeps_a_file_from_being_written_is_a_sentence(
    tmp_path: Path, source: Path, destination: Path
) -> None:
    told = run(child(source, "files", destination)).splitlines()[0]
    assert told.startswith(f"DataError Cannot write {destination}")
    assert left(destination) == []
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents]:  # pytest locks others out of its folders
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    told = run(child(source, "root", locked / "images.zip")).splitlines()[0]
    assert told.startswith(f"DataError Cannot write {locked}/images.zip: no permission")
    assert list(locked.iterdir()) == []


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr)


def test_killed_while_downloading_the_next_process_goes_on(
    source: Path, destination: Path, server: Server
) -> None:
    write_zip(source, {"a.png": os.urandom(400_000)})
    server.files["/toy.zip"] = source.read_bytes()
    server.faults["/toy.zip"] = [Fault(stall=200_000)]
    command = child(f"{server.url}/toy.zip", "no", destination, sha256(source))
    partial = destination.with_name(".images.zip.toy.zip")
    with start(command, stderr=subprocess.PIPE) as process:
        read_until(process, "Fetching toy.zip")
        while process.poll() is None and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.01)
        process.kill()
    server.over.set()
    assert process.returncode == -signal.SIGKILL
    with start(command, stderr=subprocess.PIPE) as process:  # the lock did not outlive the first
        read_until(process, "going on after")
    assert server.offsets[1] > 0
    assert destination.read_bytes() == source.read_bytes()
    assert left(destination) == ["images.zip"]


def test_two_processes_fetch_once(source: Path, destination: Path, server: Server) -> None:
    server.files["/toy.zip"] = source.read_bytes()
    server.gate.clear()
    command = child(f"{server.url}/toy.zip", "no", destination, sha256(source))
    with start(command, stderr=subprocess.PIPE) as first:
        read_until(first, "Fetching toy.zip")
        with start(command, stderr=subprocess.PIPE) as second:
            read_until(second, "Another process is fetching")
            server.gate.set()
            read_until(second, "another process has just fetched it")
    assert (first.returncode, second.returncode) == (0, 0)
    assert server.asked == ["/toy.zip"]
    assert destination.read_bytes() == source.read_bytes()
