"""Checkpoints: nothing but the file that its receipt names, fitted as asked for, is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aeflow.core.errors import CheckpointError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import read_receipt, write_receipt
from aeflow.training.checkpoints import load_learner
from tests.unit.tiny import TinyStudy, score_asked

Load = Callable[..., torch.nn.Module]
REMEDY = "run train_model again"


@pytest.fixture
def out(train: Callable[..., Path]) -> Path:
    return train("out", training={"epochs": 1})


@pytest.fixture
def load(tiny: TinyStudy, out: Path) -> Load:
    """Return a function that loads the module of `out` as a scoring with these settings does."""

    def run(method: str = "aeflow", **changes: dict[str, Any]) -> torch.nn.Module:
        changes["training"] = {"epochs": 1, **changes.get("training", {})}
        asked = score_asked(method, **changes)
        paths, files = tiny.paths(), (out / "model.safetensors", out / "trained.json")
        return load_learner(asked, tiny.images, paths[1], *paths[3:], *files).module

    return run


def resign(out: Path) -> None:
    """Let the receipt name the checkpoint as it is."""
    model, receipt = out / "model.safetensors", read_receipt(out / "trained.json")
    origin = {Path(name): sha256 for name, sha256 in receipt.origin.items()}
    parts = {"origin": origin, "settings": receipt.settings, "facts": receipt.facts}
    write_receipt(out / "trained.json", made={model: sha256_file(model)}, **parts)


def test_a_checkpoint_comes_back_bit_for_bit(load: Load, out: Path) -> None:
    module = load()
    assert not module.training
    for name, tensor in load_file(out / "model.safetensors").items():
        assert torch.equal(module.state_dict()[name], tensor)


def test_one_changed_bit_is_noticed(load: Load, out: Path) -> None:
    path = out / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_file(path)  # the control: the library sees nothing wrong
    with pytest.raises(CheckpointError, match=rf"{path} is not .*trained\.json.*another SHA-256"):
        load()


@pytest.mark.parametrize(
    ("asked", "changes", "words"),
    [
        ([], {"flow": {"clamp": 1.0}}, r"settings\.flow\.clamp: 2\.0, not 1\.0"),
        (["flow"], {}, "method: 'aeflow', not 'flow'"),
    ],
)
def test_other_settings_are_named_by_their_keys(
    load: Load, out: Path, asked: list[str], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"{out}/trained\.json says \({words}\): {REMEDY}"):
        load(*asked, **changes)


def test_other_images_are_named(load: Load, tiny: TinyStudy) -> None:
    tiny.rows[0]["sha256"] = "1" * 64
    tiny.save()
    with pytest.raises(CheckpointError, match=rf"was trained on other images.*: {REMEDY}"):
        load()


@pytest.mark.parametrize("name", ["model.safetensors", "trained.json"])
def test_a_missing_file_is_named(load: Load, out: Path, name: str) -> None:
    (out / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{out / name} is missing"):
        load()


@pytest.mark.parametrize("pickled", [False, True])
def test_a_checkpoint_of_another_shape(load: Load, out: Path, pickled: bool) -> None:
    """Even with the right checksum; a pickle is not unpickled."""
    tensors = {"a": torch.zeros(1)}
    (torch.save if pickled else save_file)(tensors, out / "model.safetensors")
    resign(out)
    with pytest.raises(CheckpointError, match=f"(?s)does not fit the configured model.*{REMEDY}"):
        load()
