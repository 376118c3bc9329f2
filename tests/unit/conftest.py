"""The tiny study, and trainings on it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tiny import TinyStudy, fit_tiny

# Tensors are tiny here: a second thread would only be in the way. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let random weights be the same whichever tests ran before."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """Undo what `set_up` does to the whole process."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict, warn_only=True)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyStudy:
    return TinyStudy(tmp_path / "data")


@pytest.fixture
def train(tiny: TinyStudy, torch_as_it_was: None) -> Callable[..., Path]:
    """Return a function that fits a method to the tiny study, into a folder of this name."""

    def run(name: str, *asked: Any, **changes: Any) -> Path:
        return fit_tiny(tiny.paths(), tiny.folder.parent / name, *asked, **changes)

    return run


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights of EfficientNet-Lite0 as fetch_weights writes them, from the installed package."""
    from aeflow.encoder.weights import fetch_weights

    weights = tmp_path_factory.mktemp("weights") / "efficientnet_lite0.safetensors"
    fetch_weights("efficientnet_lite0", weights, mirror=None)
    yield weights
    weights.unlink()
