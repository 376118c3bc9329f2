"""Collect the scores of several variants, or of one variant's seeds, in one score table."""

from pathlib import Path
from typing import Any

from aeflow.study.asked import FuseAsked
from aeflow.study.job import job


def fuse_scores(
    asked: FuseAsked, members: list[Path], statistics: Path | None, scores: Path
) -> dict[str, Any]:
    """Write the score table; there is no map of several models, hence no pixel metrics."""
    from aeflow.scoring.combine import fused_table
    from aeflow.scoring.score_tables import read_scores, write_scores

    tables = [read_scores(path) for path in members]
    known = read_scores(statistics) if statistics else None
    write_scores(scores, fused_table(tables, asked.members, known))
    return {"pixel": {}}


if __name__ == "__main__":
    job(fuse_scores)
