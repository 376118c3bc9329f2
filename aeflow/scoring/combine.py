"""One anomaly score per image from its score components."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import NORMAL, SCORE_TABLE_COLUMNS, Method, Split
from aeflow.study.settings import ScoreSettings

Scores = npt.NDArray[np.float64]


def components(table: pd.DataFrame) -> list[str]:
    """Return the names of the score components in a score table."""
    return [name for name in table.columns if name not in SCORE_TABLE_COLUMNS]


def component(table: pd.DataFrame, name: str) -> Scores:
    """Return one component of a score table, shape (N,).

    Raises:
        DataError: there is no such column, or a value in it is no finite number.
    """
    if name not in table.columns:
        raise DataError(
            f"The score table has no column '{name}' (columns: {', '.join(table.columns)}): "
            f"choose another component in 'score', or score the images again."
        )
    values: Scores = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    broken = ~np.isfinite(values)
    if broken.any():
        row = table.iloc[int(broken.argmax())]
        raise DataError(
            f"Image '{row['image_id']}' has {name} = {row[name]}, which is no finite number "
            f"({int(broken.sum())} such images): look at the history of the training, which "
            f"probably diverged."
        )
    return values


def standardise(values: Scores, validation_normals: Scores, name: str) -> Scores:
    """Return (values - mean) / sd, with mean and sd over the validation normals.

    Args:
        values: (N,) a component called `name`.
        validation_normals: (M,) the same component of the validation normals. The sd divides
            by M.

    Raises:
        DataError: no validation normals, or all have the same value: there is no scale then.
    """
    if validation_normals.size == 0:
        raise DataError(
            f"The component '{name}' cannot be standardised without validation normals: raise "
            f"data.val_fraction or set score.scaling to raw."
        )
    mean, sd = validation_normals.mean(), validation_normals.std()
    # The sd of equal numbers need not be 0: rounding may leave 1e-17.
    if sd == 0 or np.ptp(validation_normals) == 0:
        raise DataError(
            f"The component '{name}' is {validation_normals[0]} on all {validation_normals.size} "
            f"validation normals, so it has no scale: choose another component or set "
            f"score.scaling to raw."
        )
    standardised: Scores = (values - mean) / sd
    return standardised


def pred_score(table: pd.DataFrame, method: Method, score: ScoreSettings) -> Scores:
    """Return the anomaly score of every row, shape (N,), higher is more anomalous.

    Method `aeflow`: S = beta * S_flow + (1 - beta) * S_recon (Zhao et al. 2023), each as it is
    or standardised; `flow`: S_flow; `autoencoder`: S_recon. A component of weight 0 is not read.
    Method `gradient`, and the peers: one column. Method `fusion`: the mean of all columns, each
    standardised.

    Raises:
        DataError: a component is missing, not finite or cannot be standardised.
    """
    if method == Method.GRADIENT:
        return component(table, score.gradient)
    if method.peer:
        return component(table, method.value)
    normal = (table["split"] == Split.VALIDATION) & (table["gt_label"] == NORMAL)
    if method == Method.FUSION:
        members = {name: component(table, name) for name in components(table)}
        scaled = [standardise(s, s[normal.to_numpy()], name) for name, s in members.items()]
        return np.asarray(np.mean(scaled, axis=0))
    beta = score.beta if method == Method.AEFLOW else float(method.has_flow)
    total = np.zeros(len(table))
    for name, weight in ((score.flow, beta), (score.reconstruction, 1 - beta)):
        if weight == 0:
            continue
        values = component(table, name)
        if score.scaling == "standardised":
            values = standardise(values, values[normal.to_numpy()], name)
        total += weight * values
    return total


def check_same_images(tables: Sequence[pd.DataFrame]) -> None:
    """Check that score tables describe the same images in the same order, as seeds do.

    Raises:
        DataError: names the first image that differs.
    """
    first = tables[0]
    for number, table in enumerate(tables[1:], start=2):
        if len(table) != len(first):
            raise DataError(
                f"Score table {number} has {len(table)} images and the first has {len(first)}: "
                f"compare tables of one dataset, category and split."
            )
        for name in ("image_id", "split", "gt_label"):
            differs = table[name].to_numpy() != first[name].to_numpy()
            if differs.any():
                image_id = first["image_id"].iloc[int(differs.argmax())]
                raise DataError(
                    f"Score table {number} differs from the first in the {name} of image "
                    f"'{image_id}': compare tables of one dataset, category and split."
                )


def pred_scores(tables: Sequence[pd.DataFrame], method: Method, score: ScoreSettings) -> Scores:
    """Return `pred_score` of several seeds' tables as columns, shape (N, seeds).

    Raises:
        DataError: the tables describe other images, or a score cannot be combined.
    """
    check_same_images(tables)
    return np.column_stack([pred_score(table, method, score) for table in tables])


def fused_table(
    tables: Sequence[pd.DataFrame], names: Sequence[str], scores: Scores
) -> pd.DataFrame:
    """Return the score table of a fusion: a column with the score of each member.

    Args:
        tables: the members' score tables.
        names: of the members, the columns' names.
        scores: (N, members) `pred_score` of each.

    Raises:
        DataError: the tables describe other images.
    """
    check_same_images(tables)
    identity = tables[0][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    return identity.join(pd.DataFrame(scores, columns=list(names)))
