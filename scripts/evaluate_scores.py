"""Compute every metric of one cell and seed from its score files."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import read_json, write_json
from aeflow.core.job import script
from aeflow.core.receipts import Scored, read_recorded
from aeflow.core.schema import load_settings, validate
from aeflow.core.types import Method
from aeflow.judging.evaluation import Identity, JudgingSettings, metrics_content
from aeflow.scoring.score_tables import read_scores


def main(arguments: list[str]) -> None:
    """Read scores, write metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="score table, CSV")
    parser.add_argument("--scored", type=Path, required=True, help="JSON that describes it")
    parser.add_argument(
        "--train", type=Path, nargs="+", default=[], help="JSON of each training behind the scores"
    )
    parser.add_argument("--prepared", type=Path, required=True, help="manifest of the images")
    parser.add_argument("--identity", required=True, help="JSON: study, dataset, ... seed")
    parser.add_argument("--settings", required=True, help="JSON: score, threshold, evaluation")
    parser.add_argument("--metrics", type=Path, required=True, help="output, JSON")
    given = parser.parse_args(arguments)

    identity = validate(Identity, json.loads(given.identity), "--identity")
    settings = load_settings(JudgingSettings, given.settings)
    trainings = [read_json(path) for path in given.train]
    if not trainings and identity.method != Method.GRADIENT:
        parser.error("--train belongs to every method but gradient")
    metrics = metrics_content(
        read_scores(given.scores, given.scored),
        read_recorded(given.scored, Scored),
        identity,
        settings,
        trainings=trainings,
        n_train=read_json(given.prepared)["counts"]["train"],
    )
    write_json(given.metrics, metrics)


if __name__ == "__main__":
    script(main)
