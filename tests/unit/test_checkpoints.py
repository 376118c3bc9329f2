"""Checkpoints: nothing but the file that was described, of the configured model, is loaded."""

import hashlib
import json
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.tensors import read_facts, save_tensors
from aeflow.training.checkpoints import PACKAGES, load_checkpoint, versions

EXPECTED = {"settings": {"flow": {"steps": 8, "clamp": 2.0}, "seed": 1}, "images_sha256": "abc"}
REMEDY = "run train_model again"


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def files(tmp_path: Path, model: nn.Module) -> tuple[Path, Path]:
    """Return a checkpoint and its summary."""
    path, summary = tmp_path / "seed0.safetensors", tmp_path / "seed0.json"
    save_tensors(path, model.state_dict())
    summary.write_text(json.dumps({**EXPECTED, "model_sha256": sha256_file(path), "more": 1}))
    return path, summary


def refused(
    files: tuple[Path, Path], *words: str, expected: dict[str, Any] = EXPECTED, model: Any = None
) -> None:
    """Expect a CheckpointError that names the checkpoint, these words and the remedy."""
    model = model or nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(model, *files, expected)
    for word in (str(files[0]), *words):
        assert word in str(caught.value)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_checkpoint_comes_back_bit_for_bit(files: tuple[Path, Path], model: nn.Module) -> None:
    torch.manual_seed(1)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert not torch.equal(other[0].weight, model[0].weight)
    load_checkpoint(other, *files, EXPECTED)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_one_changed_bit_is_noticed(files: tuple[Path, Path]) -> None:
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    load_file(files[0])  # the control: the library sees nothing wrong
    refused(files, "another SHA-256", REMEDY)


def test_other_settings_are_named_by_their_keys(files: tuple[Path, Path]) -> None:
    wanted = {"settings": {"flow": {"steps": 4, "clamp": 2.0}, "seed": 1}, "images_sha256": "abc"}
    refused(files, str(files[1]), "(settings.flow.steps: 8, not 4)", REMEDY, expected=wanted)


def test_other_data_are_named(files: tuple[Path, Path]) -> None:
    wanted = {**EXPECTED, "images_sha256": "xyz", "index_sha256": "new"}
    words = ["images_sha256: 'abc', not 'xyz'", "index_sha256: None, not 'new'", REMEDY]
    refused(files, *words, expected=wanted)


def test_a_missing_checkpoint(files: tuple[Path, Path]) -> None:
    files[0].unlink()
    refused(files, "is missing", REMEDY)


def test_a_missing_summary(files: tuple[Path, Path]) -> None:
    files[1].unlink()
    refused(files, str(files[1]), "is missing", "train_model")


def test_a_summary_without_a_checksum(files: tuple[Path, Path]) -> None:
    files[1].write_text(json.dumps(EXPECTED))
    refused(files, str(files[1]), REMEDY)


@pytest.mark.parametrize(
    "other", [nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))]
)
def test_a_checkpoint_of_another_shape(files: tuple[Path, Path], other: nn.Module) -> None:
    refused(files, "does not fit the configured model", REMEDY, model=other)


def test_a_pickle_in_the_place_of_a_checkpoint(files: tuple[Path, Path]) -> None:
    """Even one whose checksum is right is not unpickled."""
    torch.save({"0.weight": torch.zeros(1)}, files[0])
    described = {**EXPECTED, "model_sha256": sha256_file(files[0])}
    files[1].write_text(json.dumps(described))
    refused(files, "does not fit", REMEDY)


def test_the_same_tensors_and_facts_give_the_same_bytes(tmp_path: Path) -> None:
    """The library writes several entries of metadata in random order."""
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, 2)}
    facts = dict.fromkeys("cdefgh", "x")
    found = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        save_tensors(path, tensors, dict(sorted(facts.items(), reverse=number % 2)))
        found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(found) == 1
    assert read_facts(path) == facts


def test_the_memory_layout_of_a_tensor_does_not_matter(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5)
    save_tensors(tmp_path / "a", {"x": image})
    save_tensors(tmp_path / "b", {"x": image.to(memory_format=torch.channels_last)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_group_may_read_a_checkpoint(tmp_path: Path) -> None:
    """As any file that this user writes: the umask decides."""
    (tmp_path / "plain").write_text("")
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "x.safetensors")]
    assert modes[0] == modes[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "x.safetensors"]


def test_facts_of_a_file_that_has_none(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"x\.safetensors was not written by this program"):
        read_facts(tmp_path / "x.safetensors")


def test_a_full_disk_is_an_error_with_a_remedy_and_keeps_the_old_file(tmp_path: Path) -> None:
    """The limit on file sizes stands in for a full disk."""
    code = """
import sys, torch
from pathlib import Path
from aeflow.core.tensors import save_tensors
from aeflow.core.errors import DataError
try:
    save_tensors(Path(sys.argv[1]), {"a": torch.zeros(100_000)})
except DataError as error:
    print(error)
"""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(f"Cannot write {path}: "), done.stderr
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_versions_name_what_shapes_numbers() -> None:
    found = versions()
    assert set(found) == {"python", *PACKAGES}
    assert found["torch"] == torch.__version__.split("+")[0]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
