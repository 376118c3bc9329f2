"""A push or a pull that is broken off, two at once, and a full disk."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Shared
from tests.workflow.remotes import (
    PATIENCE,
    Bucket,
    Line,
    advice,
    attach,
    damaged_objects,
    payload,
    start,
)

# The folders, of 0.4 MB to 2.5 MB, go first, together 4.2 MB; then, at once, the archive of 3.7 MB
# and the weights of 18.8 MB.
FEW = 300_000
MANY = 8_000_000
WEIGHTS = "data/weights/efficientnet_lite0.safetensors"
Fault = Callable[[Shared, Line], str]


def cut(study: Shared, line: Line) -> str:
    done = study.call("dvc", "push", check=False)
    assert line.broken.is_set()
    assert done.returncode != 0, done.stdout
    return done.stderr


def kill(study: Shared, line: Line, command: str = "push") -> str:
    with start(study, "dvc", command) as process:
        assert line.broken.wait(PATIENCE), process.communicate()
        process.kill()
    return ""


def assert_whole(study: Shared, wanted: dict[str, str]) -> None:
    """Nothing that is here under a final name is half of a file."""
    assert payload(study).items() <= wanted.items()
    assert damaged_objects(study.folder / ".dvc/cache") == []


@pytest.mark.parametrize(("fault", "limit"), [(cut, MANY), (kill, FEW)])
def test_a_push_that_was_broken_off_is_repeated(
    sender: Shared, copy: Shared, s3: str, fault: Fault, limit: int
) -> None:
    bucket = Bucket(s3, f"{fault.__name__}-{limit}").create()
    with Line(bucket.endpoint or "", limit, cut=fault is cut) as line:
        attach(sender, bucket, through=line)
        told = fault(sender, line)
    if told:
        assert "the network" in advice(told)
    attach(copy, bucket)
    half = copy.call("dvc", "pull", check=False)
    assert half.returncode != 0
    assert "runs `dvc push` again" in advice(half.stderr)
    assert "Missing cache files" in half.stderr
    assert (len(payload(copy)) > 0) == (limit == MANY), "some of it has arrived"
    assert WEIGHTS not in payload(copy)
    assert_whole(copy, payload(sender))
    attach(sender, bucket)
    sender.call("dvc", "push")
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)
    assert copy.plan() == {}


def test_a_second_pull_in_a_folder_is_refused(sender: Shared, copy: Shared, s3: str) -> None:
    """The first is held up where it has the lock, so that the second must meet it."""
    bucket = Bucket(s3, "turns").create()
    attach(sender, bucket)
    sender.call("dvc", "push")
    with Line(s3, MANY) as line:
        attach(copy, bucket, through=line)
        with start(copy, "dvc", "pull") as first:
            assert line.broken.wait(PATIENCE), first.communicate()
            second = copy.call("dvc", "pull", check=False)
            line.mended.set()
            assert first.wait(PATIENCE) == 0
    assert second.returncode != 0
    assert "wait for it" in advice(second.stderr)
    attach(copy, bucket)
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)
    assert damaged_objects(copy.folder / ".dvc/cache") == []


def test_a_pull_that_was_killed_leaves_nothing_half_and_no_lock(
    sender: Shared, copy: Shared, s3: str
) -> None:
    bucket = Bucket(s3, "killed").create()
    attach(sender, bucket)
    sender.call("dvc", "push")
    with Line(s3, MANY) as line:
        attach(copy, bucket, through=line)
        kill(copy, line, "pull")
    assert_whole(copy, payload(sender))
    assert WEIGHTS not in payload(copy)
    attach(copy, bucket)
    copy.call("dvc", "pull")
    assert payload(copy) == payload(sender)
    assert copy.status() == ""


def test_two_clones_pull_at_once(author: Shared, sender: Shared, tmp_path: Path) -> None:
    clones = [Shared(tmp_path / name) for name in ("one", "two")]
    for clone in clones:
        author.call("git", "clone", "--quiet", str(author.folder), str(clone.folder))
    pulls = [start(clone, "dvc", "pull") for clone in clones]
    for clone, pull in zip(clones, pulls, strict=True):
        told = pull.communicate(timeout=PATIENCE)
        assert pull.returncode == 0, told
        assert payload(clone) == payload(sender)


def in_mounts(study: Shared, *commands: str) -> str:
    """Run shell commands where mounts are allowed and end with them; return all they print."""
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    allowed = study.call(*shell, "mount -t tmpfs tmpfs /mnt", check=False)
    if allowed.returncode:
        pytest.skip(f"cannot mount here: {allowed.stderr}")
    return study.call(*shell, "\n".join(["exec 2>&1", *commands])).stdout


# Space for less than the remote has, and for that but not for the copies that are to be used.
@pytest.mark.parametrize(("space", "message"), [(20, "failed to transfer"), (36, "Is your cache")])
def test_a_full_disk_and_another_pull_when_there_is_space(
    copy: Shared, sender: Shared, tmp_path: Path, space: int, message: str
) -> None:
    disk, left = tmp_path / "disk", tmp_path / "left"
    disk.mkdir()
    used = copy.call("du", "-sm", ".").stdout.split()[0]
    size = int(used) + space
    told = in_mounts(
        copy,
        f"mount -t tmpfs -o size={size}m tmpfs {disk}",
        f"cp -a {copy.folder} {disk}/copy && cd {disk}/copy",
        "dvc pull -v; echo status $?",
        f"cp -a {disk}/copy {left}",
        f"mount -o remount,size={size + 100}m {disk}",
        "echo SPACE; dvc pull && dvc data status",
        f"rm -rf {copy.folder}; cp -a {disk}/copy {copy.folder}",
    )
    full, _, free = told.partition("SPACE\n")
    assert re.search(r"^status [1-9]", full, re.MULTILINE)
    assert message in full
    assert "free some space" in advice(full)
    assert_whole(Shared(left), payload(sender))
    assert payload(Shared(left)) != payload(sender)
    assert "No changes." in free
    assert payload(copy) == payload(sender)


def test_what_a_broken_checkout_leaves_is_not_payload(copy: Shared) -> None:
    """DVC's own temporary files, beside those that they were to become."""
    copy.call("dvc", "pull", "--quiet", "data/prepared/again")
    shutil.copy(copy.folder / "README.md", copy.folder / "data/prepared/again/brick/.x1.tmp")
    assert ".x1.tmp" not in copy.call("dvc", "data", "status", "--granular").stdout
    assert copy.status() == ""
