"""Ours against a plain reference, as fair as a noisy machine allows."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.quantities import Action, gflop, matrix_product_gflops, seconds

Build = Callable[[], Action]
Quantity = Callable[[Action], float]
_side = threading.local()  # holds the action of a side, in that side's process


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes:
        name: what was measured.
        unit: of `value` and `reference`: images/s, s, MiB, jobs or h (computed).
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
        quantity: `seconds` or `peak_mib`.
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
    return Measurement(
        name,
        "images/s" if images else "s" if quantity is seconds else "MiB",
        shown[0],
        shown[1] if plain else None,
        median(ratios) if ratios else None,
        (min(ratios), max(ratios)) if ratios else None,
        max(peaks, default=None),
        work / middle[0] / max(peaks) if work else None,
    )
