"""What is measured of an action: its time, its memory, its arithmetic (Linux only)."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

Action = Callable[[], object]
MIB_IN_KB = 1024
MATRIX_SIDE = 2048
FORKED = 0x40  # PF_FORKNOEXEC of the kernel's sched.h


def seconds(action: Action) -> float:
    """Return the wall time of `action`, seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def peak_mib(action: Action) -> float:
    """Return the highest memory of this process and all its children during `action`, MiB.

    Sampled, proportional set size: pages that processes share are counted once. Of children,
    those count that run a program of their own, as all that we start do.
    """
    done, samples = Event(), [_family_mib()]

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(_family_mib())

    watcher = Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(samples)


def gflop(action: Action) -> float:
    """Return the arithmetic of the convolutions and matrix products in `action`, 1e9 operations.

    A multiply-add counts as two.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        action()
    return float(counter.get_total_flops()) / 1e9


def matrix_product_gflops(_: Action) -> float:
    """Return the speed of a float32 matrix product here, 1e9 operations per second.

    The best of several, once as a product and once as the same 1x1 convolution: another library
    computes that, on some processors twice as fast.
    """
    import torch

    a, b = torch.rand(2, MATRIX_SIDE, MATRIX_SIDE)
    pixels = a.view(16, -1, 1, MATRIX_SIDE).permute(0, 3, 1, 2)
    kernel = b[:, :, None, None]
    ways: list[Action] = [lambda: a @ b, lambda: torch.conv2d(pixels, kernel)]
    best = min(seconds(way) for way in ways * 3)
    return 2 * MATRIX_SIDE**3 / best / 1e9


def _family_mib() -> float:
    kilobytes = 0
    for process in _family(Path("/proc/self").resolve()):
        with suppress(OSError):  # it has ended meanwhile
            lines = (process / "smaps_rollup").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / MIB_IN_KB


def _family(process: Path) -> Iterator[Path]:
    yield process
    with suppress(OSError):
        for listed in process.glob("task/*/children"):
            for child in listed.read_text().split():
                if not _uses_its_parents_memory(Path("/proc") / child):
                    yield from _family(Path("/proc") / child)


def _uses_its_parents_memory(process: Path) -> bool:
    """Tell whether a child has not started its program yet: until then memory counts twice."""
    try:
        flags = (process / "stat").read_text().rpartition(")")[2].split()[6]
    except OSError:  # it has ended meanwhile
        return True
    return bool(int(flags) & FORKED)
