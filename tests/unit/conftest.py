"""The tiny study, and trainings on it."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aeflow.data.archives import open_archive
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
def narrow_ganomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its networks have an eighth of the width; as wide as it is, it has 160 MB of state."""
    monkeypatch.setattr("aeflow.methods.ganomaly.FEATURES", 8)
    monkeypatch.setattr("aeflow.methods.ganomaly.LATENT", 12)


@contextmanager
def _here(archive: Path, count: int) -> Iterator[ThreadPoolExecutor]:
    from aeflow.data import workers

    with open_archive(archive) as opened, ThreadPoolExecutor(1) as pool:
        workers._archive = opened
        yield pool
        del workers._archive


@contextmanager
def reading_here() -> Iterator[None]:
    """Let archives be read in this process: to start another takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aeflow.data.prepare.archive_workers", _here)
        patch.setattr("aeflow.commands.datasets.archive_workers", _here)
        yield


@pytest.fixture
def read_here() -> Iterator[None]:
    with reading_here():
        yield


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
