"""What a run says: on a terminal, in a log, as a plan, and of what failed."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aeflow.core.text import span
from snakemake_logger_plugin_aeflow.run import Run
from tests.workflow.conftest import Repository, copy_repository, jobs_in

SCREENFUL = 60
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(repository: Repository, *arguments: str) -> str:
    """Return what a run writes to a terminal, its codes left out."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        repository.command(*arguments),
        cwd=repository.folder,
        env=repository.environment() | {"TERM": "xterm", "COLUMNS": "120", "LINES": "50"},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    written = b""
    try:
        while part := os.read(leader, 65536):
            written += part
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0, written.decode()
    return CODES.sub("", written.decode()).replace("\r", "")


def test_a_plan_of_many_jobs_is_a_table_of_a_screenful(clone: Repository, tmp_path: Path) -> None:
    many = [{"name": "aeflow"}]
    many += [{"name": f"v{n}", "settings": {"loss": {"alpha": n / 100}}} for n in range(1, 41)]
    overlay = tmp_path / "many.yaml"
    tiny = yaml.safe_load((clone.folder / "tiny.yaml").read_text())
    overlay.write_text(yaml.safe_dump({**tiny, "variants": many, "ablations": []}))
    said = clone.snakemake("--dry-run", overlay=str(overlay)).stdout.splitlines()
    assert len(said) <= SCREENFUL
    (row,) = [line for line in said if line.startswith("train_model")]
    assert re.match(r"train_model +164 +not there yet +dataset demo_textures; category", row)
    assert any(" and 37 more" in line for line in said), "of 41 variants"
    (total,) = [line for line in said if line.endswith("shows each command.")]
    plan = jobs_in("\n".join(said))
    assert int(total.split()[0]) == sum(plan.values())
    assert set(plan) > {"fetch_data", "train_model", "build_report"}


def test_a_run_tells_stages_on_a_terminal(
    tiny: Repository, edit: Callable[[str, str, str], None]
) -> None:
    edit("tiny.yaml", "bootstrap_replicates: 50", "bootstrap_replicates: 60")
    edit("tiny.yaml", "{name: demo_textures}", "{name: demo_textures, categories: [brick]}")
    assert "an input has changed" not in tiny.snakemake("--dry-run").stdout
    table = "results/tiny/tables/main.csv"
    jobs = sum(tiny.plan(table).values())
    screen = on_terminal(tiny, table)
    assert "Reason" not in screen
    assert "python scripts/" not in screen
    assert f"{jobs} of {jobs} jobs" in screen[screen.rindex("evaluate_scores") :]
    assert re.search(r"about \d+ s left", screen), "by the benchmarks of the run before"


def test_a_run_tells_a_line_per_job_elsewhere(
    finished_tiny: Repository, clone: Repository
) -> None:
    log = finished_tiny.folder.with_name("tiny.log").read_text()
    jobs = sum(clone.plan().values())
    assert log.rstrip().endswith("Report: results/tiny/report.html")
    assert re.search(r"^demo_textures +aeflow +\d\d\.\d ", log, re.MULTILINE)
    assert "Reason" not in log
    assert "python scripts/" not in log
    lines = re.findall(r"^\d\d:\d\d:\d\d (\d+) of (\d+): [A-Z]\w+ .*", log, re.MULTILINE)
    assert lines == [(str(n), str(jobs)) for n in range(1, jobs + 1)]


def test_hours_of_training_without_a_gpu_are_told_and_ctrl_c_ends_them(tmp_path: Path) -> None:
    """A first overlay that names nothing but images plans the paper's study."""
    clone = Repository(copy_repository(tmp_path))
    tiny = yaml.safe_load((clone.folder / "tiny.yaml").read_text())
    tiny["training"]["epochs"] = 300
    (clone.folder / "long.yaml").write_text(yaml.safe_dump(tiny))
    process = subprocess.Popen(
        clone.command(overlay="long.yaml"),
        cwd=clone.folder,
        env=clone.environment() | {"CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    told = next(line for line in process.stderr if "no GPU here" in line or " 1 of " in line)
    assert told.startswith("4 trainings of up to 300 epochs, and no GPU here: this takes hours")
    assert any(" 1 of " in line for line in process.stderr), "a job is done, and others run"
    os.killpg(process.pid, signal.SIGINT)
    after = process.communicate()[1]
    assert process.returncode == 1
    assert "job failed" not in after, "nothing to report on"
    assert not (clone.results() / "incomplete").exists()


def test_snakemakes_own_words_are_there_for_who_asks(tiny: Repository) -> None:
    target = "results/tiny/tables/main.csv"
    said = tiny.snakemake("--force", "--printshellcmds", "--", target).stderr
    assert "Reason: Forced execution" in said
    assert "python scripts/make_table.py" in said
    assert "1 of 1 steps (100%) done" in said


def events(**said: Any) -> dict[str, Any]:
    return {"jobid": 1, "rule_name": "make_table", "rule_msg": None, "wildcards": {}, **said}


def test_the_time_that_is_left_follows_from_what_was_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Two jobs of 100 s by an earlier run's benchmark; of another rule nothing is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEFLOW_SILENT", "1")
    run = Run(show_failed_logs=False)
    run.plan({"all": 1, "make_table": 2, "plot_figure": 1, "total": 4})
    assert (run.total, run.left()) == (3, "")
    earlier = tmp_path / "results/other/benchmarks/make_table/main.tsv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("s\th:m:s\n100.0\t0:01:40\n")
    run = Run(show_failed_logs=False)
    run.plan({"make_table": 2, "plot_figure": 1})
    assert run.left() == "; more than 3 min left"
    run.plan({"make_table": 2})
    assert run.left() == "; about 3 min left"
    assert [span(s) for s in (42.4, 200, 6000)] == ["42 s", "3 min", "1 h 40 min"]


def test_a_trainings_epoch_and_loss_are_read_from_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AEFLOW_SILENT", "1")
    log = tmp_path / "log"
    run = Run(show_failed_logs=False)
    run.start(events(log=[str(log)]))
    assert run.running[1].stands() == ""
    log.write_text(
        "x" * 9000 + "\n2026-01-01 10:00:00 epoch 3 of 20 train_loss 1.5 val_loss 1.25\n"
    )
    assert run.running[1].stands() == "epoch 3 of 20, train_loss 1.5, val_loss 1.25"
    run.plan({"make_table": 2})  # the first of its kind: two of 800 s, of which 120 are over
    run.running[1].started -= 120
    run._started -= 120
    assert run.left() == "; about 25 min left"
    run._spent["make_table"] = [10.0]  # a short one; this one's own epochs still count
    run.plan({"make_table": 1})
    assert run.left() == "; about 10 min left"
    log.write_text("resuming in epoch 3\n" + log.read_text())
    assert run.left() == "; about 31 min left", "its one epoch took 120 s; 17 are left"
