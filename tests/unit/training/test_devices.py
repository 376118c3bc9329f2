"""Devices: what is chosen, and what `set_up` fixes."""

import os
import subprocess
import sys
import uuid

import pytest
import torch

from aeflow.core.errors import ConfigError
from aeflow.study.settings import TrainingSettings
from aeflow.training import devices
from aeflow.training.devices import choose_device, free_gpu, set_up


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Return which accelerators this machine pretends to have; change it to change them."""
    has = {"cuda": False, "mps": False}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has["mps"])
    return has


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_auto_is_cuda_then_mps_then_the_cpu(
    machine: dict[str, bool], cuda: bool, mps: bool, chosen: str
) -> None:
    machine.update(cuda=cuda, mps=mps)
    assert choose_device("auto") == torch.device(chosen)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_named(machine: dict[str, bool], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.device: this machine has no {name}; use a"):
        choose_device(name)
    machine[name] = True
    assert choose_device(name).type == name


def test_processes_take_different_gpus_until_they_end() -> None:
    cards = [f"{uuid.uuid4()}" for _ in range(3)]
    code = (
        "import sys; from aeflow.training.devices import free_gpu;"
        "print(free_gpu(sys.argv[1:])); input()"
    )

    def start(number: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *cards[:number]]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def taken(process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        return int(process.stdout.readline())

    first, second = start(3), None
    try:
        assert taken(first) == 0
        second = start(3)
        assert taken(second) == 1
        first.kill()
        first.wait()
        assert free_gpu(cards) == 0
        assert free_gpu(cards[:2]) == os.getpid() % 2
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()


@pytest.mark.parametrize("peer", [False, True])
def test_set_up_seeds_and_fixes_threads_and_kernels(
    torch_as_it_was: None, monkeypatch: pytest.MonkeyPatch, peer: bool
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: kept.append(True))
    settings = TrainingSettings(device="cpu", threads=1)
    assert set_up(settings, seed=5, peer=peer) == torch.device("cpu")
    assert kept == ([] if peer else [True])  # PatchCore would need ten times the memory
    first = torch.rand(3)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    set_up(settings, seed=5)
    assert torch.equal(torch.rand(3), first)
    set_up(settings, seed=6)
    assert not torch.equal(torch.rand(3), first)
