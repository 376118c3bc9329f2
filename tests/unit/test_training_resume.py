"""Interrupted trainings: whatever ends a run, the next one continues to the same bytes."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aeflow.core.files import sha256_file
from aeflow.core.tensors import read_facts
from aeflow.training.trainer import Trainer
from tests.unit.tiny import TinyStudy

Train = Callable[..., Path]
OUTPUTS = ("model.safetensors", "history.csv")

# Ends itself at the n-th call of a function that every training comes by: no race, no waiting.
CHILD = """
import os, sys
import torch
from aeflow.core.job import script
from scripts.train_model import main

where, number, signal = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
owner, name = {"step": (torch.optim.Adam, "step"), "fsync": (os, "fsync")}[where]
original, calls = getattr(owner, name), 0

def interrupted(*arguments):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal)
    return original(*arguments)

setattr(owner, name, interrupted)
script(main)
"""


def digests(out: Path) -> dict[str, str]:
    return {name: sha256_file(out / name) for name in OUTPUTS}


def progress(out: Path) -> tuple[int, int]:
    """Return the epoch of a saved state, and how many of its images were trained on."""
    saved = json.loads(read_facts(out / "state.safetensors")["progress"])
    return saved["epoch"], saved["images"]


def interrupt(
    tiny: TinyStudy, out: Path, where: str, number: int, by: signal.Signals
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, where, str(number), str(int(by))]
    command += [*tiny.train_arguments(out), "--log", str(out / "log")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# An epoch of the tiny study has three steps: 5, 5 and 2 images. The state is written after each.
@pytest.mark.parametrize(
    ("where", "number", "left"),
    [
        ("step", 8, (3, 0)),  # in the middle of the third epoch
        ("fsync", 3, (3, 0)),  # while the state of the third epoch is written
    ],
)
def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(
    tiny: TinyStudy, train: Train, where: str, number: int, left: tuple[int, int]
) -> None:
    expected = digests(train("undisturbed"))
    out = tiny.folder.parent / "killed"
    assert interrupt(tiny, out, where, number, signal.SIGKILL).returncode == -signal.SIGKILL
    assert progress(out) == left
    assert not (out / "model.safetensors").exists()
    assert digests(train("killed")) == expected
    assert sorted(path.name for path in out.iterdir()) == [
        "history.csv",
        "log",
        "model.safetensors",
        "summary.json",
    ]


def test_sigterm_saves_first_in_the_middle_of_an_epoch_too(tiny: TinyStudy, train: Train) -> None:
    expected = digests(train("undisturbed"))
    out = tiny.folder.parent / "stopped"
    # In the fifth step, the second of the second epoch: that step is finished, then saved.
    done = interrupt(tiny, out, "step", 5, signal.SIGTERM)
    assert done.returncode == 143
    assert progress(out) == (2, 10)
    assert "stopped by signal 15, state saved" in (out / "log").read_text()
    assert digests(train("stopped")) == expected


def test_kills_at_random_moments(tiny: TinyStudy, train: Train) -> None:
    """The unchanged script, killed from outside some time after it has left a state."""
    expected = digests(train("undisturbed"))
    out = tiny.folder.parent / "killed"
    command = [sys.executable, "scripts/train_model.py", *tiny.train_arguments(out)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while child.poll() is None and not (out / "state.safetensors").exists():
        time.sleep(0.001)
    for _ in range(random.Random().randrange(20_000)):
        pass  # up to a millisecond: anywhere in a step or a save
    child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)
    assert digests(train("killed")) == expected


def test_everything_that_a_model_holds_is_resumed(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchNorms' statistics and the standardisation too."""
    changes = {"flow": {"steps": 2, "subnet": "resnet", "standardise": "position"}}
    expected = digests(train("undisturbed", **changes))
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train("out", **changes)
    assert digests(train("out", **changes)) == expected


def test_the_learning_rate_is_resumed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests(train("undisturbed", training={"lr_schedule": "cosine"}))
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train("out", training={"lr_schedule": "cosine"})
    assert digests(train("out", training={"lr_schedule": "cosine"})) == expected


def test_the_time_of_the_first_run_counts(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr("aeflow.training.trainer.time.monotonic", lambda: float(next(clock)))
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train("out")  # looks at the clock at the start and when it saves: 0, 100, 200
    monkeypatch.undo()
    monkeypatch.setattr("aeflow.training.trainer.time.monotonic", lambda: 0.0)
    train("out")
    summary = json.loads((tiny.folder.parent / "out/summary.json").read_text())
    assert summary["fit_seconds"] == 200


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    train_epoch = Trainer._train_epoch

    def stop(trainer: Trainer, epoch: int, *rest: object) -> None:
        if epoch == number:
            raise KeyboardInterrupt
        train_epoch(trainer, epoch, *rest)

    monkeypatch.setattr(Trainer, "_train_epoch", stop)


@pytest.fixture
def unfinished(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[int]]:
    """Return the folder of a training with two finished epochs, and the epochs trained later."""
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train("out")
    epochs: list[int] = []
    train_epoch = Trainer._train_epoch

    def note(trainer: Trainer, epoch: int, *rest: object) -> None:
        epochs.append(epoch)
        train_epoch(trainer, epoch, *rest)

    monkeypatch.setattr(Trainer, "_train_epoch", note)
    return tiny.folder.parent / "out", epochs


def test_a_resumed_training_repeats_no_epoch(
    unfinished: tuple[Path, list[int]], train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aeflow")
    train("out")
    assert unfinished[1] == [3, 4]
    assert "resuming in epoch 3 after 0 images" in caplog.text


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_damaged_state_is_ignored_and_logged(
    unfinished: tuple[Path, list[int]], train: Train, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    out, epochs = unfinished
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:kept])
    expected = digests(train("undisturbed"))
    epochs.clear()
    assert digests(train("out")) == expected
    assert epochs == [1, 2, 3, 4]
    assert f"training starts anew: {state} is damaged" in caplog.text


def test_a_file_of_somebody_else_in_its_place_is_ignored_and_logged(
    unfinished: tuple[Path, list[int]], train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import save_file

    out, epochs = unfinished
    save_file({"a": torch.zeros(1)}, out / "state.safetensors")
    train("out")
    assert epochs == [1, 2, 3, 4]
    assert "training starts anew" in caplog.text


def test_a_state_of_another_training_is_ignored(
    unfinished: tuple[Path, list[int]],
    tiny: TinyStudy,
    train: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another validation split of the same images: what was trained on must not be resumed."""
    epochs = unfinished[1]
    caplog.set_level("INFO", "aeflow")
    normals = [row for row in tiny.rows if row["split"] == "train"]
    normals[0]["split"] = "validation"
    tiny.save()
    expected = digests(train("undisturbed"))
    epochs.clear()
    assert digests(train("out")) == expected
    assert epochs == [1, 2, 3, 4]
    assert "is the state of another training" in caplog.text


@pytest.mark.parametrize(
    ("seed", "changes"), [(1, {}), (0, {"loss": {"alpha": 0.25}}), (0, {"training": {"lr": 0.5}})]
)
def test_seed_and_settings_are_part_of_a_states_identity(
    unfinished: tuple[Path, list[int]],
    train: Train,
    seed: int,
    changes: dict[str, dict[str, float]],
) -> None:
    train("out", seed=seed, **changes)
    assert unfinished[1] == [1, 2, 3, 4]


def test_dropout_in_a_resumed_epoch_draws_what_it_would_have_drawn(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fine-tuned backbone may hold dropout; here the decoder does."""
    from aeflow.models.decoder import Decoder

    forward = Decoder.forward
    monkeypatch.setattr(
        Decoder, "forward", lambda s, z: forward(s, torch.dropout(z, 0.5, s.training))
    )
    expected = digests(train("undisturbed"))
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train("out")
    torch.rand(7)
    assert digests(train("out")) == expected


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state(tiny: TinyStudy) -> None:
    """The limit on file sizes stands in for a full disk: both refuse the write."""
    out = tiny.folder.parent / "out"
    command = [sys.executable, "scripts/train_model.py", *tiny.train_arguments(out)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [*command, "--log", str(out / "log")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"train_model.py: Cannot write {out}/state.safetensors: files of that size are not "
        "allowed here: raise the limit (ulimit -f).\n"
    )
    assert [path.name for path in out.iterdir()] == ["log"]
