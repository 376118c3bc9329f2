"""Scripts: one sentence on stderr, the rest in the log."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import logging, sys
from pathlib import Path
from aeflow.core.errors import DataError
from aeflow.core.job import script
sys.argv[0] = "scripts/make_thing.py"
def main(arguments):
    print(arguments)
    logging.getLogger("aeflow.training.trainer").info("a line")
    logging.getLogger("elsewhere").info("chatter")
    logging.getLogger("elsewhere").warning("a warning")
    BODY
script(main)
"""


def run(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = CODE.replace("BODY", body)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_lines_go_to_the_log_and_nothing_else_is_printed(tmp_path: Path) -> None:
    log = tmp_path / "deep/er/log.txt"
    done = run("pass", "--seed", "3", "--log", str(log), "--state", "-x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['--seed', '3', '--state', '-x']\n"
    lines = [line[20:] for line in log.read_text().splitlines()]
    assert lines == ["a line", "a warning"]


def test_a_new_attempt_starts_a_new_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("an old line\n")
    run("pass", "--log", str(log))
    assert "an old line" not in log.read_text()


def test_an_error_of_ours_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("raise DataError('x.npy is damaged:\\n  delete it.')", "--log", str(log))
    assert done.returncode == 1
    assert done.stderr == "make_thing.py: x.npy is damaged: delete it.\n"
    assert "Traceback (most recent call last)" in log.read_text()
    assert "DataError: x.npy is damaged" in log.read_text()


def test_an_error_that_nobody_foresaw_says_where_its_traceback_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("{}['key']", "--log", str(log))
    assert done.returncode == 1
    assert (
        done.stderr == f"make_thing.py: Unexpected KeyError: 'key'. The traceback is in {log}.\n"
    )
    assert "KeyError: 'key'" in log.read_text()


def test_without_a_log_file_everything_goes_to_stderr() -> None:
    done = run("raise DataError('wrong')")
    assert done.returncode == 1
    assert "a line" in done.stderr
    assert done.stderr.endswith("make_thing.py: wrong\n")


@pytest.mark.parametrize(("body", "status"), [("sys.exit(143)", 143), ("sys.exit(0)", 0)])
def test_an_exit_status_is_kept(body: str, status: int, tmp_path: Path) -> None:
    done = run(body, "--log", str(tmp_path / "log"))
    assert (done.returncode, done.stderr) == (status, "")


def test_a_full_disk_does_not_bury_the_sentence_in_errors_of_the_log() -> None:
    done = run("raise DataError('the disk is full')", "--log", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == "make_thing.py: the disk is full\n"


def test_a_log_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = tmp_path / "file/log"
    done = run("pass", "--log", str(log))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"make_thing.py: Cannot write {log}: there is a file where a folder is needed: move it "
        "away.\n"
    )
