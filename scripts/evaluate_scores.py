"""Compute every metric of one cell and seed from its score files."""

import argparse
import json
from pathlib import Path

from aeflow.evaluation import Identity, JudgingSettings, evaluate_scores, read_scores
from aeflow.files import read_json, write_json
from aeflow.logging import script
from aeflow.validation import load_settings, validate


def main(arguments: list[str]) -> None:
    """Read scores, write metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="score table, CSV")
    parser.add_argument("--pixel", type=Path, required=True, help="JSON beside the score table")
    parser.add_argument("--train", type=Path, help="summary of the training, JSON")
    parser.add_argument("--prepared", type=Path, required=True, help="manifest of the images")
    parser.add_argument("--identity", required=True, help="JSON: study, dataset, ... seed")
    parser.add_argument("--settings", required=True, help="JSON: score, threshold, evaluation")
    parser.add_argument("--metrics", type=Path, required=True, help="output, JSON")
    given = parser.parse_args(arguments)

    identity = validate(Identity, json.loads(given.identity), "--identity")
    settings = load_settings(JudgingSettings, given.settings)
    if (given.train is None) != (not identity.method.trained):
        parser.error("--train belongs to every method but gradient")
    training = {"fit_seconds": 0.0, "best_epoch": None}
    if given.train is not None:
        summary = read_json(given.train)
        training = {name: summary[name] for name in training}
    metrics = evaluate_scores(
        read_scores(given.scores),
        read_json(given.pixel)["pixel"],
        method=identity.method,
        score=settings.score,
        threshold=settings.threshold,
        evaluation=settings.evaluation,
    )
    write_json(
        given.metrics,
        {
            **identity.model_dump(),
            **metrics,
            **training,
            "n_train": read_json(given.prepared)["counts"]["train"],
            "settings": settings.model_dump(mode="json"),
        },
    )


if __name__ == "__main__":
    script(main)
