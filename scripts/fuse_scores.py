"""Collect the scores of several variants in one score table (method fusion)."""

import argparse
import json
from pathlib import Path

import numpy as np

from aeflow.core.job import script
from aeflow.core.receipts import Scored, read_recorded
from aeflow.core.schema import validate
from aeflow.core.types import Method
from aeflow.scoring.combine import fused_table, pred_score
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.settings import ScoreSettings


def main(arguments: list[str]) -> None:
    """Write the score table; there is no map of several models, hence no pixel metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--members", required=True, help="JSON: list of {name, method, score, scores, scored}"
    )
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--scored", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    members = json.loads(args.members)
    tables = [read_scores(Path(member["scores"]), Path(member["scored"])) for member in members]
    scores = [
        pred_score(
            table, Method(member["method"]), validate(ScoreSettings, member["score"], "--members")
        )
        for member, table in zip(members, tables, strict=True)
    ]
    names = [member["name"] for member in members]
    fused = fused_table(tables, names, np.column_stack(scores))
    described = [read_recorded(Path(member["scored"]), Scored) for member in members]
    made_from = {
        f"{name}_table_sha256": facts["scores_sha256"]
        for name, facts in zip(names, described, strict=True)
    }
    write_scores(args.scores, args.scored, fused, pixel={}, **made_from)


if __name__ == "__main__":
    script(main)
