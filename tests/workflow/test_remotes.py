"""Remotes as docs/share.md sets them up, and what becomes of damage in them."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import Shared
from tests.workflow.remotes import Bucket, Folder, Store, advice, attach, change, payload

# Its object is shared by the prepared images of both datasets.
MASKS = "data/prepared/again/brick/masks.npy"
UP_TO_DATE = "Everything is up to date."
UNCLEAR = "Is your cache up to date?"
Make = Callable[[str], Store]


@pytest.fixture(params=["folder", "s3"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make an empty remote of the name."""
    if request.param == "folder":
        return lambda name: Folder(tmp_path / name)
    server = request.getfixturevalue("s3")
    return lambda name: Bucket(server, name).create()


def object_of(study: Shared, name: str) -> str:
    """Return the name of a file's object, as DVC's own index of the folder tells it."""
    folder, _, inner = name.partition("/brick/")
    recorded = yaml.safe_load((study.folder / f"{folder}.dvc").read_text())["outs"][0]["md5"]
    listed = study.folder / f".dvc/cache/files/md5/{recorded[:2]}/{recorded[2:]}"
    (md5,) = (
        entry["md5"]
        for entry in yaml.safe_load(listed.read_text())
        if entry["relpath"] == f"brick/{inner}"
    )
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def damage(store: Store, name: str) -> bytes:
    """Flip a bit of an object; return what it was."""
    whole = store.read(name)
    store.write(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole


def fails(study: Shared, *command: str) -> str:
    """Run a command that has to fail; return what it says on stderr."""
    done = study.call(*command, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def doctor(study: Shared, check: bool = True) -> str:
    return study.call("aeflow", "doctor", "--configfile", "tiny.yaml", check=check).stdout


def test_a_study_goes_through_s3(sender: Shared, copy: Shared, s3: str) -> None:
    bucket = Bucket(s3, "way").create()
    attach(sender, bucket)
    sender.call("dvc", "push")
    attach(copy, bucket)
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender) != {}
    assert copy.plan() == {}
    assert "tiny: passed" in doctor(copy)
    assert copy.status() == ""


def test_a_damaged_object_is_refused_and_replaced(
    sender: Shared, copy: Shared, make: Make
) -> None:
    """The first of the two ways that the documentation has: its bytes are put in place."""
    store = make("replaced")
    attach(sender, store)
    attach(copy, store)
    sender.call("dvc", "push")
    name = object_of(sender, MASKS)
    whole = damage(store, name)
    told = fails(copy, "dvc", "pull")
    assert "dvc pull -v" in advice(told)
    assert "Missing cache files" not in told
    assert MASKS not in payload(copy)
    assert payload(copy).items() <= payload(sender).items()
    verbose = copy.call("dvc", "pull", "-v", check=False).stdout
    assert any("corrupted cache file" in line and name in line for line in verbose.splitlines())
    assert sender.call("dvc", "push").stdout.strip() == UP_TO_DATE
    assert store.read(name) != whole, "a push that only looks whether it is there mends nothing"
    store.write(name, (sender.folder / ".dvc/cache" / name).read_bytes())
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)


def test_a_lost_object_is_sent_anew_without_the_folders(
    sender: Shared, copy: Shared, make: Make
) -> None:
    """The second way: it and every `.dir` are deleted, then pushed."""
    store = make("deleted")
    attach(sender, store)
    attach(copy, store)
    sender.call("dvc", "push")
    name = object_of(sender, MASKS)
    store.delete(name)
    assert sender.call("dvc", "push").stdout.strip() == UP_TO_DATE
    assert name not in store.names(), "a folder's `.dir` is taken for all that it lists"
    assert "as if it were damaged" in advice(fails(copy, "dvc", "pull"))
    for folder in store.names():
        if folder.endswith(".dir"):
            store.delete(folder)
    sender.call("dvc", "push")
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)


def test_without_verify_the_doctor_finds_the_damage(
    sender: Shared, copy: Shared, tmp_path: Path
) -> None:
    store = Folder(tmp_path / "silent")
    attach(sender, store)
    attach(copy, store)
    sender.call("dvc", "push")
    name = object_of(sender, MASKS)
    whole = damage(store, name)
    change(copy, "verify", "false")
    copy.call("dvc", "pull")
    assert copy.call("dvc", "data", "status").stdout.strip() == "No changes.", "as DVC sees it"
    found = doctor(copy, check=False)
    assert f"{MASKS} is not the file that" in found
    assert "pulled damaged" in advice(found)
    store.write(name, whole)
    change(copy, "verify", "true")
    copy.call("dvc", "pull")
    assert payload(copy)[MASKS] != payload(sender)[MASKS], "what is in the cache is trusted"
    copy.call("rm", "-rf", ".dvc/cache", "data/prepared/again", "data/prepared/demo_textures")
    copy.call("dvc", "pull")
    assert "tiny: passed" in doctor(copy)


def test_no_remote(sender: Shared, copy: Shared) -> None:
    url = copy.call("dvc", "remote", "list").stdout.split()[1]
    copy.call("dvc", "remote", "remove", "store")
    for command in ("pull", "push"):
        assert "Once: a remote" in advice(fails(copy, "dvc", command))
    assert payload(copy) == {}
    attach(copy, Folder(Path(url)))
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)


def test_a_folder_that_is_not_there(sender: Shared, copy: Shared, tmp_path: Path) -> None:
    store = Folder(tmp_path / "share/aeflow")
    attach(copy, store)
    told = fails(copy, "dvc", "pull")
    assert "not mounted" in advice(told)
    assert payload(copy) == {}
    attach(sender, store)
    sender.call("dvc", "push")
    assert store.names(), "the folder is made, mounted or not"
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)


def test_a_bucket_a_server_and_keys_that_are_not_there(
    sender: Shared, copy: Shared, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(s3, "missing")
    attach(sender, bucket)
    attach(copy, bucket)
    for study, command in ((copy, "pull"), (sender, "push")):
        assert "make the bucket" in advice(fails(study, "dvc", command))
    with monkeypatch.context() as environment:
        environment.delenv("AWS_ACCESS_KEY_ID")
        assert "the keys" in advice(fails(copy, "dvc", "pull"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    change(copy, "endpointurl", f"http://127.0.0.1:{port}")
    assert "`endpointurl`" in advice(fails(copy, "dvc", "pull"))
    assert payload(copy) == {}
    bucket.create()
    change(copy, "endpointurl", s3)
    sender.call("dvc", "push")
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)
