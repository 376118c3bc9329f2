"""Tensors on disk: the same bytes for the same tensors, and a whole file or none."""

import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aeflow.core.errors import DataError
from aeflow.core.tensors import read_facts, save_tensors


def test_the_same_tensors_and_facts_give_the_same_bytes(tmp_path: Path) -> None:
    """The library writes several entries of metadata in random order; layouts do not matter."""
    image = torch.randn(2, 3, 4, 5)
    facts = dict.fromkeys("cdefgh", "x")
    found = set()
    for number in range(8):
        layout = torch.channels_last if number % 3 else torch.contiguous_format
        tensors = {"b": torch.ones(3), "a": image.to(memory_format=layout)}
        path = tmp_path / f"{number}.safetensors"
        save_tensors(path, tensors, dict(sorted(facts.items(), reverse=number % 2)))
        found.add(path.read_bytes())
    assert len(found) == 1
    assert read_facts(path) == facts


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
