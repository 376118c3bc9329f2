"""Files that appear only when complete, whatever goes wrong."""

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aeflow.core.errors import DataError
from aeflow.core.files import (
    atomic_path,
    check_writable,
    read_json,
    sha256_file,
    write_json,
    write_text,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that exists already."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    return path


def untouched(path: Path) -> bool:
    """Whether the old file is there, and nothing else."""
    return path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_complete(path: Path) -> None:
    with atomic_path(path) as part:
        assert part.parent == path.parent
        assert part.suffix == path.suffix
        part.write_text("ne")
        assert path.read_text() == "old"
        with part.open("a") as file:
            file.write("w")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def fail_to_write(path: Path, error: BaseException) -> None:
    with atomic_path(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail_to_write(path, error())
    assert untouched(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EISDIR, "there is a folder of that name"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(path: Path, number: int, words: str) -> None:
    with pytest.raises(DataError, match=rf"^Cannot write {path}: {words}.*\.$"):
        fail_to_write(path, OSError(number, os.strerror(number)))
    assert untouched(path)


def test_another_error_of_the_system_is_not_disguised(path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        fail_to_write(path, ConnectionResetError(errno.ECONNRESET, "reset"))


def test_a_full_disk_at_the_very_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems notice only when the file is flushed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="disk is full"):
        write_text(path, "new")
    assert untouched(path)


CHILD = """
import os, sys
from pathlib import Path
from aeflow.core.errors import DataError
from aeflow.core.files import write_text
try:
    write_text(Path(sys.argv[1]), "x" * 50_000)
except DataError as error:
    print(error)
"""


def test_a_write_that_stops_in_the_middle(path: Path) -> None:
    """The limit on file sizes stands in for a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(f"Cannot write {path}: files of that size are not allowed")
    assert untouched(path)


def test_a_folder_without_permission() -> None:
    """As another user where the tests run as root, who may write anywhere."""
    user = 65534 if os.getuid() == 0 else os.getuid()
    code = f"import os\nfrom aeflow.core import files\nos.setuid({user})\n{CHILD}"
    with TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        path = Path(name) / "table.csv"
        path.write_text("old")
        path.parent.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.startswith(f"Cannot write {path}: no permission"), done.stderr
        assert untouched(path)


def test_a_killed_writer_leaves_nothing_under_the_name(path: Path) -> None:
    code = CHILD.replace("import os, sys", "import os, signal, sys").replace(
        "try:", "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\ntry:"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # the next writer clears what was left
    assert list(path.parent.iterdir()) == [path]


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b/c.txt", "é")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "é".encode()


def test_a_file_in_the_place_of_a_folder(path: Path) -> None:
    for below in (path / "x.txt", path / "deep/x.txt"):
        with pytest.raises(DataError, match=rf"Cannot write {below}: there is a file where"):
            write_text(below, "")


def test_json_is_sorted_and_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": [1, None], "a": 0.1})
    assert path.read_text() == '{\n  "a": 0.1,\n  "b": [\n    1,\n    null\n  ]\n}\n'
    assert read_json(path) == {"a": 0.1, "b": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["a"] == 0.1


def test_json_that_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=rf"{path} is missing: run the rule"):
        read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(DataError, match=rf"{path} is no valid JSON .*delete it"):
        read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=rf"{path} is no valid JSON"):
        read_json(path)


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_folder_to_be_made_is_writable_where_its_parent_is(tmp_path: Path) -> None:
    check_writable(tmp_path / "not/yet/there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file where a folder is needed"):
        check_writable(tmp_path / "file/below")
    with pytest.raises(DataError, match=r"^Cannot write /sys/aeflow: "):
        check_writable(Path("/sys/aeflow"))
