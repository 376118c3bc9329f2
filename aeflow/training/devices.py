"""Where and how tensors are computed."""

import ctypes
import logging
import os
import resource
import socket
import sys
from collections.abc import Sequence
from typing import Literal

import torch

from aeflow.core.errors import ConfigError
from aeflow.study.settings import TrainingSettings

logger = logging.getLogger(__name__)
# What `free_gpu` holds until this process ends.
_held: list[socket.socket] = []


def choose_device(name: Literal["auto", "cuda", "mps", "cpu"]) -> torch.device:
    """Return the device; auto is CUDA, then MPS, then the CPU. Of several GPUs, one that is free.

    Raises:
        ConfigError: the machine has no such device.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if has["cuda"] else "mps" if has["mps"] else "cpu"
    if not has.get(name, True):
        raise ConfigError(f"training.device: this machine has no {name}; use auto.")
    device = torch.device(name)
    if name == "cuda" and (count := torch.cuda.device_count()) > 1:
        cards = [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]
        device = torch.device(name, free_gpu(cards))
    logger.info("device %s", device)
    return device


def free_gpu(cards: Sequence[str]) -> int:
    """Return the index of the first GPU that no other process of ours on this machine has taken.

    If all are taken, one by the number of this process. `cards` are names that tell one GPU from
    another, the same for all processes.
    """
    for index, card in enumerate(cards):
        # A name without a file, on Linux; free again when its process ends, however it ends.
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0aeflow-gpu-{card}")
        except OSError:
            holder.close()
            continue
        _held.append(holder)
        return index
    return os.getpid() % len(cards)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free, instead of asking the kernel for it at every step.

    Large blocks are otherwise unmapped when freed and cleared page by page when they come back:
    a training step of the decoder took 0.72 s of CPU time, 0.51 s like this.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in other C libraries
        if mallopt is not None:
            m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, 2**31 - 1)


def peak_rss_mib() -> float:
    """Return the largest resident set of this process so far, in MiB.

    Files that are mapped into memory count as far as they were resident at that moment.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def set_up(settings: TrainingSettings, seed: int = 0, *, peer: bool = False) -> torch.device:
    """Seed, fix the number of threads, ask for deterministic kernels, and return the device.

    A `peer` does not keep freed memory: PatchCore's coreset, a thousand large arrays with a small
    one kept of each, would take a new place for every one (17 GB where 1.3 do).
    """
    if not peer:
        keep_freed_memory()
    torch.manual_seed(seed)
    torch.set_num_threads(settings.threads)
    if settings.compile:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:  # the same without the compiler, which takes a second to import
        torch.set_deterministic_debug_mode("warn")
    # Not NaN into every new tensor first: about 2 % of a training on a CPU, within the noise.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return choose_device(settings.device)
