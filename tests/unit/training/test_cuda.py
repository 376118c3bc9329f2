"""On a GPU: the same bytes again and after a kill, and what the CPU says of them."""

import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aeflow.core.receipts import read_receipt
from aeflow.methods.aeflow import uses_bfloat16
from tests.unit.tiny import TinyStudy, fit_tiny, score_tiny

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA", allow_module_level=True)
Train = Callable[..., Path]
CUDA = {"device": "cuda", "precision": "float32"}
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("aeflow", {}),
    ("aeflow", {"training": {"precision": "bfloat16"}}),
    ("aeflow", {"encoder": {"stages": 3}, "decoder": {"target": "features"}}),
    ("aeflow", {"flow": {"subnet": "resnet", "standardise": "position"}}),
    ("flow", {"encoder": {"stages": [2, 3]}, "flow": {"noise": 0.5, "standardise": "whiten"}}),
    ("autoencoder", {}),
    ("gaussian", {"encoder": {"stages": [2, 3]}}),
]


@pytest.fixture
def paths(tiny: TinyStudy, torch_as_it_was: None) -> list[Path]:
    tiny.add_stage(3, 5)
    tiny.save()
    return tiny.paths()


def on(changes: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """Return changes of settings with those of `training` below them."""
    return {**changes, "training": {**training, **changes.get("training", {})}}


def made(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("model.safetensors", "history.csv")]


@pytest.mark.parametrize(("method", "changes"), METHODS)
def test_a_gpu_gives_the_same_bytes_again_and_no_warning(
    paths: list[Path], tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    changes = on(changes, CUDA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again = (fit_tiny(paths, tmp_path / name, 0, method, **changes) for name in "ab")
    assert made(first) == made(again)
    assert read_receipt(first / "trained.json").facts["device"] == "cuda"


@pytest.mark.parametrize(("method", "changes"), METHODS)
def test_the_cpu_scores_what_a_gpu_trained_as_the_gpu_does(
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    changes: dict[str, Any],
) -> None:
    changes = on(changes, {"device": "auto", "precision": "float32"})
    out = fit_tiny(paths, tmp_path / "out", 0, method, **changes)
    assert read_receipt(out / "trained.json").facts["device"] == "cuda"
    there, _ = score_tiny(paths, out, method, **changes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here, _ = score_tiny(paths, out, method, **changes)
    numbers = there.select_dtypes("number").columns
    assert len(numbers) > 2
    for name in numbers:
        np.testing.assert_allclose(there[name], here[name], rtol=2e-3, atol=2e-3, err_msg=name)


def test_a_gpu_trains_as_the_cpu_does(paths: list[Path], tmp_path: Path) -> None:
    """The same weights to begin with and the same order: the losses differ by rounding alone."""
    float32 = {"precision": "float32"}
    there = fit_tiny(paths, tmp_path / "there", training=CUDA)
    here = fit_tiny(paths, tmp_path / "here", training=float32)
    tables = [np.loadtxt(o / "history.csv", delimiter=",", skiprows=1) for o in (there, here)]
    np.testing.assert_allclose(*tables, rtol=1e-2)


CHILD = """
import os, signal, sys
from pathlib import Path
from aeflow.training import adam
from tests.unit.tiny import fit_tiny

original, calls = adam.adam, 0

def interrupted(*arguments, **options):
    global calls
    calls += 1
    if calls == 8:  # in the middle of the third epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

adam.adam = interrupted
fit_tiny([Path(each) for each in sys.argv[2:]], Path(sys.argv[1]), training={"device": "cuda"})
"""


def test_a_killed_training_ends_on_a_gpu_with_the_bytes_of_an_undisturbed_one(
    paths: list[Path], tmp_path: Path
) -> None:
    expected = made(fit_tiny(paths, tmp_path / "undisturbed", training={"device": "cuda"}))
    out = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, str(out), *map(str, paths)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert (out / "state.safetensors").exists()
    assert made(fit_tiny(paths, out, training={"device": "cuda"})) == expected


def test_auto_is_bfloat16_where_the_gpu_multiplies_it() -> None:
    supported = torch.cuda.get_device_capability() >= (8, 0)  # Ampere and later
    assert uses_bfloat16("auto", torch.device("cuda")) == supported
