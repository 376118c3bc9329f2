"""Collect the scores of several variants in one score table (method fusion)."""

import argparse
import json
from pathlib import Path

import numpy as np

from aeflow.combination import fused_table, pred_score
from aeflow.evaluation import read_scores
from aeflow.files import sha256_file
from aeflow.logging import script
from aeflow.score_files import write_scores
from aeflow.settings import ScoreSettings
from aeflow.types import Method
from aeflow.validation import validate


def main(arguments: list[str]) -> None:
    """Write the score table; there is no map of several models, hence no pixel metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", required=True, help="JSON: list of {name, method, score}")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="in their order")
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--pixel", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    members = json.loads(args.members)
    tables = [read_scores(path) for path in args.tables]
    scores = [
        pred_score(
            table, Method(member["method"]), validate(ScoreSettings, member["score"], "--members")
        )
        for member, table in zip(members, tables, strict=True)
    ]
    names = [member["name"] for member in members]
    fused = fused_table(tables, names, np.column_stack(scores))
    made_from = {
        f"{name}_table_sha256": sha256_file(path)
        for name, path in zip(names, args.tables, strict=True)
    }
    write_scores(args.scores, args.pixel, fused, pixel={}, **made_from)


if __name__ == "__main__":
    script(main)
