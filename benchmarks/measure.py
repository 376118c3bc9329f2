"""Ours against a plain reference, as fair as a noisy machine allows (Linux only)."""

import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

Action = Callable[[], object]
Build = Callable[[], Action]
Quantity = Callable[[Action], float]
MATRIX_SIDE = 2048
_side = threading.local()  # holds the action of a side, in that side's process


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes:
        name: what was measured.
        unit: of `value` and `reference`: images/s, s, s CPU, MiB, jobs.
        value: ours, the median of the repeats.
        reference: the plain reference's, measured in between; None where there is none.
        ratio: how many times better ours is: the median over pairs of neighbouring runs.
        ratio_range: lowest and highest ratio of these pairs, which tells the noise.
        matrix_product_gflops: speed of a large matrix product in the process of ours.
        share_of_peak: convolutions and products of ours per second, as a share of that.
    """

    name: str
    unit: str
    value: float
    reference: float | None = None
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    matrix_product_gflops: float | None = None
    share_of_peak: float | None = None


def threads() -> int:
    """Return the threads or worker processes that both sides may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def seconds(action: Action) -> float:
    """Return the wall time of `action`, seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cpu_seconds(action: Action) -> float:
    """Return the CPU time of the programs that `action` runs to their end, user and system."""
    before = _cpu_of_children()
    action()
    return _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_mib(action: Action) -> float:
    """Return the highest memory of this process and all its children during `action`, MiB.

    Sampled, proportional set size: pages that processes share are counted once.
    """
    done, samples = threading.Event(), [_family_mib()]

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(_family_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(samples)


def _family_mib() -> float:
    own, total = psutil.Process(), 0
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended meanwhile
            # Until a child starts its program, which has another name, it borrows our memory.
            if process == own or process.cmdline() != own.cmdline():
                total += process.memory_full_info().pss
    return total / 2**20


def run_python(folder: Path | None, arguments: list[str]) -> Action:
    """Return a run of Python, in a folder or here; it fails unless that ends with 0."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True)


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


def own_process(build: Build) -> Executor:
    """Start a process that builds an action: what one side does cannot warm or slow the other."""
    pool = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(build,)
    )
    pool.submit(int)  # a pool starts its process with the first task
    return pool


def _start(build: Build) -> None:
    _side.action = build()


def _measure(quantity: Quantity) -> float:
    return quantity(_side.action)


def compare(
    name: str,
    ours: Build,
    plain: Build | None = None,
    *,
    repeats: int,
    images: int | None = None,
    quantity: Quantity = seconds,
    arithmetic: bool = False,
) -> Measurement:
    """Run both sides in turn `repeats` times, after one warm-up of each.

    Args:
        name: of the measurement.
        ours: returns our action; called in a new process.
        plain: the same of the reference.
        repeats: pairs of runs.
        images: that an action handles; gives images per second instead of seconds.
        quantity: `seconds`, `cpu_seconds` or `peak_mib`.
        arithmetic: count the convolutions of ours and compare them with a matrix product.
    """
    with ExitStack() as stack:
        sides = [
            stack.enter_context(own_process(build)) for build in (ours, plain) if build is not None
        ]
        for side in sides:
            side.submit(_measure, quantity).result()
        work = sides[0].submit(_measure, gflop).result() if arithmetic else None
        rounds, peaks = [], []
        for _ in range(repeats):
            rounds.append([side.submit(_measure, quantity).result() for side in sides])
            if arithmetic:
                peaks.append(sides[0].submit(_measure, matrix_product_gflops).result())
    middle = [median(values) for values in zip(*rounds, strict=True)]
    ratios = [values[1] / values[0] for values in rounds] if plain else []
    shown = [images / value for value in middle] if images else middle
    unit = "MiB" if quantity is peak_mib else "s CPU" if quantity is cpu_seconds else "s"
    return Measurement(
        name,
        "images/s" if images else unit,
        shown[0],
        shown[1] if plain else None,
        median(ratios) if ratios else None,
        (min(ratios), max(ratios)) if ratios else None,
        max(peaks, default=None),
        work / middle[0] / max(peaks) if work else None,
    )
