"""One anomaly score per image from its score components: the only place that knows how."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import NORMAL, SCORE_TABLE_COLUMNS, Method, Split, top_component
from aeflow.scoring.complexity import without_complexity
from aeflow.study.asked import MemberAsked
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
    """Return (values - mean) / sd, with mean and sd (by n) over the validation normals.

    Raises:
        DataError: fewer than two validation normals, or all have the same value: there is no
            scale then.
    """
    if validation_normals.size < 2:
        raise DataError(
            f"To standardise '{name}' takes 2 or more validation normals, and there are "
            f"{validation_normals.size}: use more normal images, raise data.val_fraction or set "
            "score.scaling to raw (a fusion always standardises)."
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


def pred_score(
    table: pd.DataFrame,
    method: Method,
    score: ScoreSettings,
    statistics: pd.DataFrame | None = None,
) -> Scores:
    """Return the anomaly score of every row, shape (N,), higher is more anomalous.

    Method `aeflow`: S = beta * S_flow + (1 - beta) * S_recon (Zhao et al. 2023), each as it is
    or standardised; `flow`: S_flow; `autoencoder`: S_recon. A component of weight 0 is not read.
    Method `gradient`, and the peers: one column. Method `fusion`: the mean of
    `standardised_members`. With `score.correct` each component is first corrected.
    For that, `statistics` is the score table of method `gradient` of the same images.

    Raises:
        DataError: a component is missing, not finite, or cannot be standardised or corrected.
    """
    total = np.zeros(len(table))
    for weight, values in score_parts(table, method, score, statistics):
        total += weight * values
    return total


def score_parts(
    table: pd.DataFrame,
    method: Method,
    score: ScoreSettings,
    statistics: pd.DataFrame | None = None,
) -> list[tuple[float, Scores]]:
    """Return what `pred_score` is the weighted sum of: the weight and the values, (N,), of each.

    Two where beta weighs S_flow and S_recon, in that order, else one. Arguments and errors are
    those of `pred_score`.
    """
    if method == Method.FUSION:
        return [(1.0, np.asarray(standardised_members(table, score, statistics).mean(axis=1)))]
    if method.peer or method == Method.GRADIENT:
        name = score.gradient if method == Method.GRADIENT else method.value
        return [(1.0, _read(table, [name], score, statistics)[0])]
    beta = score.beta if method == Method.AEFLOW else float(method.has_flow)
    weights = {_column(score.flow, score): beta, _column(score.reconstruction, score): 1 - beta}
    names = [name for name, weight in weights.items() if weight]
    parts = []
    for name, values in zip(names, _read(table, names, score, statistics), strict=True):
        if score.scaling == "standardised":
            values = standardise(values, values[_validation_normals(table)], name)
        parts.append((weights[name], values))
    return parts


def _column(name: str, score: ScoreSettings) -> str:
    return top_component(name, score.top_share) if name.endswith("_top") else str(name)


def standardised_members(
    table: pd.DataFrame, score: ScoreSettings, statistics: pd.DataFrame | None = None
) -> Scores:
    """Return the standardised columns of a fusion's table, shape (N, members).

    Each member has mean 0 and sd 1 over its own validation normals, so that none dominates.
    They are variants, or the seeds of one: a deep ensemble (Lakshminarayanan et al. 2017).
    """
    names, normal = components(table), _validation_normals(table)
    members = _read(table, names, score, statistics)
    scaled = [standardise(s, s[normal], name) for name, s in zip(names, members, strict=True)]
    return np.array(scaled).T


def _read(
    table: pd.DataFrame,
    names: Sequence[str],
    score: ScoreSettings,
    statistics: pd.DataFrame | None,
) -> list[Scores]:
    """Return components, corrected if so asked."""
    found = [component(table, name) for name in names]
    if score.correct == "none":
        return found
    if statistics is None:
        raise ValueError("score.correct needs the score table of method gradient")
    return without_complexity(found, _validation_normals(table), table["image_id"], statistics)


def _validation_normals(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    chosen = (table["split"] == Split.VALIDATION) & (table["gt_label"] == NORMAL)
    return np.asarray(chosen.to_numpy(bool))


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


def fused_table(
    tables: Sequence[pd.DataFrame],
    members: Sequence[MemberAsked],
    statistics: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the score table of a fusion: a column with the score of each member.

    Raises:
        DataError: the tables differ in their images, or a member has no score.
    """
    check_same_images(tables)
    scores = {}
    for member, table in zip(members, tables, strict=True):
        try:
            scores[member.name] = pred_score(table, member.method, member.score, statistics)
        except DataError as error:
            raise DataError(f"The member '{member.name}' has no score. {error}") from error
    identity = tables[0][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    return identity.join(pd.DataFrame(scores))
