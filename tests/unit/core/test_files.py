"""Files that appear only when complete, whatever goes wrong."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aeflow.core.errors import DataError, NoSpaceError
from aeflow.core.files import (
    atomic_path,
    check_writable,
    read_json,
    require_space,
    sha256_file,
    write_json,
    write_text,
)

CHILD = """
import os, signal, sys
from pathlib import Path
from aeflow.core.errors import DataError
from aeflow.core.files import write_text
SET_UP
try:
    write_text(Path(sys.argv[1]), "x" * 50_000)
except DataError as error:
    print(error)
"""
WRITER = """
import sys
import time
from pathlib import Path
from aeflow.core.files import atomic_path
for _ in range(60):
    with atomic_path(Path(sys.argv[1])) as part, part.open("w") as file:
        for _ in range(30):
            file.write(sys.argv[2] * 10_000)
            file.flush()
"""
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
KILL = "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that exists already."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    return path


def untouched(path: Path) -> bool:
    """Whether the old file is there, and nothing else."""
    return path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def write_in_child(path: Path, set_up: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD.replace("SET_UP", set_up), str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_old_file_is_there_until_the_new_one_is_complete(path: Path) -> None:
    with atomic_path(path) as part:
        assert (part.parent, part.suffix) == (path.parent, path.suffix)
        part.write_text("new")
        complete = part.stat().st_ino
        assert path.read_text() == "old"
    assert (path.read_text(), path.stat().st_ino) == ("new", complete), "moved, not copied"
    assert list(path.parent.iterdir()) == [path]
    write_text(path.parent / "a/b/c.txt", "é")
    assert (path.parent / "a/b/c.txt").read_bytes() == "é".encode()


def fail_to_write(path: Path, error: BaseException) -> None:
    with atomic_path(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize(
    "error", [ValueError(), KeyboardInterrupt(), ConnectionResetError(errno.ECONNRESET, "reset")]
)
def test_an_error_leaves_the_old_file_and_is_not_disguised(
    path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        fail_to_write(path, error)
    assert untouched(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EISDIR, "there is a folder of that name"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(path: Path, number: int, words: str) -> None:
    with pytest.raises(DataError, match=rf"^Cannot write {path}: {words}.*\.$"):
        fail_to_write(path, OSError(number, os.strerror(number)))
    assert untouched(path)


def test_a_full_disk_at_the_very_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems notice only when the file is flushed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="disk is full"):
        write_text(path, "new")
    assert untouched(path)


def test_a_write_that_stops_in_the_middle(path: Path) -> None:
    """The limit on file sizes stands in for a full disk."""
    said = write_in_child(path, LIMIT).stdout
    assert said.startswith(f"Cannot write {path}: files of that size are not allowed")
    assert untouched(path)


def test_a_folder_without_permission() -> None:
    """As another user where the tests run as root, who may write anywhere."""
    user = 65534 if os.getuid() == 0 else os.getuid()
    with TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        path = Path(name) / "table.csv"
        path.write_text("old")
        path.parent.chmod(0o555)
        done = write_in_child(path, f"os.setuid({user})")
        assert done.stdout.startswith(f"Cannot write {path}: no permission"), done.stderr
        assert untouched(path)


def test_a_killed_writer_leaves_nothing_under_the_name(path: Path) -> None:
    assert write_in_child(path, KILL).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # the next writer clears what was left
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "days", "stays"),
    [
        (".table.{host}-{alive}-0.part.csv", 2, True),  # its writer may be slow
        (".table.{host}-{dead}-7.part.csv", 0, False),
        (".table.elsewhere-{alive}-0.part.csv", 0.9, True),
        (".table.elsewhere-{alive}-0.part.csv", 1.1, False),
        (".other.{host}-{dead}-0.part.csv", 2, True),
        (".table.x.{host}-{dead}-0.part.csv", 2, True),
        (".table.part.csv", 2, True),  # nobody's we know
    ],
)
def test_parts_of_the_dead_are_removed_and_those_of_the_living_are_not(
    path: Path, name: str, days: float, stays: bool
) -> None:
    with atomic_path(path) as part:
        part.touch()
        host, pid, _ = part.name.removeprefix(".table.").split("-")
        assert int(pid) == os.getpid()
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = path.with_name(name.format(host=host, alive=os.getppid(), dead=ended.pid))
    left.touch()
    then = time.time() - days * 86_400
    os.utime(left, (then, then))
    write_text(path, "new")
    assert left.exists() == stays


def test_two_writers_never_share_a_file(path: Path) -> None:
    """Many processes write one file; whoever looks, sees one writer's bytes as a whole."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "abcd"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        assert text == "old" or text == text[0] * 300_000
        seen.add(text[0])
    assert [writer.returncode for writer in writers] == [0] * 4
    assert path.read_text()[0] in "abcd"
    assert list(path.parent.iterdir()) == [path]


def test_two_parts_of_one_process_are_two(path: Path) -> None:
    with atomic_path(path) as outer:
        outer.write_text("outer")
        write_text(path, "inner")
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"


def test_a_name_as_long_as_names_may_be_has_room_for_its_part(tmp_path: Path) -> None:
    name = "weighting-" + "+".join(["x" * 64] * 3)
    write_text(tmp_path / f"{name}.svg", "figure")


def test_a_file_in_the_place_of_a_folder(path: Path) -> None:
    for below in (path / "x.txt", path / "deep/x.txt"):
        with pytest.raises(DataError, match=rf"Cannot write {below}: there is a file where"):
            write_text(below, "")


def test_a_folder_to_be_made_is_writable_where_its_parent_is(tmp_path: Path) -> None:
    check_writable(tmp_path / "not/yet/there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file where a folder is needed"):
        check_writable(tmp_path / "file/below")
    with pytest.raises(DataError, match=r"^Cannot write /sys/aeflow: "):
        check_writable(Path("/sys/aeflow"))


def test_space_is_asked_for_before_a_file_is_written(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "A letter")
    with pytest.raises(NoSpaceError, match=r"^A film needs 1,000,000,000,000\.0 MB in .* MB are"):
        require_space(tmp_path, 10**18, "A film")


def test_json_is_sorted_and_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": [1, None], "a": 0.1})
    assert path.read_text() == '{\n  "a": 0.1,\n  "b": [\n    1,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 0.1, "b": [1, None]}


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000, None])
def test_json_that_is_missing_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    said = "is missing: run the rule" if content is None else "is no valid JSON .*delete it"
    with pytest.raises(DataError, match=rf"{path} {said}"):
        read_json(path)


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
