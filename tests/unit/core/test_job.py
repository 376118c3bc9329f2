"""Scripts: one sentence on stderr, the rest in the log."""

import subprocess
import sys
from pathlib import Path

import pytest

from aeflow.core.job import SILENT, why_failed

CODE = """
import logging, sys
from aeflow.core.errors import AccessError, DataError
from aeflow.core.job import script
sys.argv[0] = "scripts/make_thing.py"
def main(given):
    print(given)
    logging.getLogger("aeflow.training.trainer").info("a line")
    logging.getLogger("elsewhere").info("chatter")
    logging.getLogger("elsewhere").warning("a warning")
    BODY
script(main)
"""


def run(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE.replace("BODY", body), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_lines_go_to_a_new_log_and_nothing_else_is_printed(tmp_path: Path) -> None:
    log = tmp_path / "deep/er/log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("of the attempt before\n")
    done = run("pass", "--seed", "3", "--log", str(log), "--more-files", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "{'seed': ['3'], 'more_files': ['a', 'b']}\n"
    assert [line[20:] for line in log.read_text().splitlines()] == ["a line", "a warning"]


@pytest.mark.parametrize("words", [["seed", "3"], ["3", "--seed", "3"], ["--seed"]])
def test_words_that_are_no_options_are_refused(words: list[str]) -> None:
    done = run("pass", *words)
    said = f"make_thing.py: give `--name value` options, not `{' '.join(words)}`.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise DataError('x.npy is damaged:\\n  delete it.')", "x.npy is damaged: delete it."),
        ("raise AccessError('Ask:\\n1. them')", "Ask:\n1. them"),  # a recipe keeps its lines
        ("{}['key']", "Unexpected KeyError: 'key'. The traceback is in LOG."),
        ("raise KeyboardInterrupt", None),
        ("sys.exit(143)", None),
    ],
)
def test_an_error_is_a_sentence_and_its_traceback_is_in_the_log(
    body: str, sentence: str | None, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    done = run(body, "--log", str(log))
    if sentence is None:
        assert (done.returncode, done.stderr) == ({"s": 143, "r": 130}[body[0]], "")
        assert ("Failed: Stopped by Ctrl-C." in log.read_text()) == (body[0] == "r")
        return
    assert done.returncode == 1
    assert done.stderr == f"make_thing.py: {sentence.replace('LOG', str(log))}\n"
    assert "Traceback (most recent call last)" in log.read_text()


def test_without_a_log_file_everything_goes_to_stderr() -> None:
    done = run("raise DataError('wrong')")
    assert done.returncode == 1
    assert "a line" in done.stderr
    assert done.stderr.endswith("make_thing.py: wrong\n")


def test_a_log_that_cannot_be_written_buries_no_sentence(tmp_path: Path) -> None:
    done = run("raise DataError('the disk is full')", "--log", "/dev/full")
    assert (done.returncode, done.stderr) == (1, "make_thing.py: the disk is full\n")
    (tmp_path / "file").touch()
    log = tmp_path / "file/log"
    done = run("pass", "--log", str(log))
    assert (done.returncode, done.stdout) == (1, "")
    said = "there is a file where a folder is needed: move it away."
    assert done.stderr == f"make_thing.py: Cannot write {log}: {said}\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise DataError('x.npy is damaged:\\n  delete it.')", "x.npy is damaged: delete it."),
        ("raise AccessError('Ask:\\n1. Go: to them.')", "Ask:\n1. Go: to them."),
        ("{}['key']", "Unexpected KeyError: 'key'. The traceback is in LOG."),
        ("sys.exit(143)", "Ended without a sentence, killed perhaps (log: LOG)."),
    ],
)
def test_why_a_job_failed_is_told_once_by_who_reads_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str
) -> None:
    monkeypatch.setenv(SILENT, "1")
    log = tmp_path / "log"
    assert run(body, "--log", str(log)).stderr == ""
    assert why_failed(log) == reason.replace("LOG", str(log))
    assert why_failed(tmp_path / "none").startswith("Ended without a sentence")


def test_a_silent_job_speaks_where_its_log_took_no_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SILENT, "1")
    done = run("raise DataError('the disk is full')", "--log", "/dev/full")
    assert done.stderr == "make_thing.py: the disk is full\n"
