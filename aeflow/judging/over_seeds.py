"""Seeds as replicates: a metric per seed first, then mean, sd and interval over seeds.

Test images of several seeds are never pooled: they are the same images, and n would be a multiple
of what it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.core.errors import DataError

Values = npt.NDArray[np.float64]
CONFIDENCE = 0.95  # of every interval over seeds, and of DeLong's
COSTS = ("fit_seconds", "peak_rss_mib")  # from 0 on; all other columns are shares in [0, 1]
Range = tuple[float, float]


def t_interval(
    mean: npt.ArrayLike, sd: npt.ArrayLike, n: npt.ArrayLike, within: Range
) -> tuple[Values, Values]:
    """Return the ends of Student's 95 % interval of a mean, mean -+ t sd / sqrt(n), elementwise.

    It tells where the mean over all seeds may lie (Student 1908); the test images stay as they
    are. It takes the seeds' values as drawn from a normal distribution, which two or three of
    them cannot show, so it is wide for few seeds, and cut at the range that the mean must lie
    in: that leaves it as sure as it was. NaN for n < 2: one seed has no interval. `sd` is the
    sample's (n - 1).
    """
    from scipy import special  # 0.1 s of CPU time, and most figures need no interval

    mean, sd = np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    n = np.asarray(n, dtype=np.float64)
    freedom = np.where(n >= 2, n - 1, np.nan)
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * sd / np.sqrt(freedom + 1)
    return np.clip(mean - half, *within), np.clip(mean + half, *within)


def over_seeds(table: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return mean, sd and `t_interval` over seeds.

    Args:
        table: one row per value of `by` and `seed`.
        columns: metrics. A mean needs every seed's value: with a NaN among them it is NaN.

    Returns:
        One row per value of `by`, in order of appearance: `by`, n_seeds, then `<column>_mean`,
        `_sd`, `_low` and `_high`. A single seed has a mean only.

    Raises:
        DataError: a seed appears twice for the same `by`.
    """
    by, columns = list(by), list(columns)
    twice = table[table.duplicated([*by, "seed"])]
    if len(twice):
        row = twice.iloc[0]
        named = "/".join(str(row[name]) for name in by)
        raise DataError(
            f"Seed {row['seed']} of {named} has two rows: average what belongs to a seed first, "
            f"then over seeds."
        )
    groups = table.groupby(by, sort=False, dropna=False)
    mean = groups[columns].mean(skipna=False)
    sd = groups[columns].std(ddof=1, skipna=False)
    found: dict[str, Any] = {"n_seeds": groups.size()}
    for name in columns:
        within = (0.0, np.inf if name in COSTS else 1.0)
        low, high = t_interval(mean[name], sd[name], found["n_seeds"], within)
        found |= {f"{name}_mean": mean[name], f"{name}_sd": sd[name]}
        found |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(found, index=mean.index).reset_index()
