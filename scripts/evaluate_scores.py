"""Judge every variant that reads one score table."""

from pathlib import Path
from typing import Any

from aeflow.study.asked import JudgeAsked
from aeflow.study.job import job


def evaluate_scores(
    asked: JudgeAsked,
    scores: Path,
    scored: Path,
    prepared: Path,
    trained: list[Path],
    statistics: Path | None,
) -> dict[str, Any]:
    """Return the metrics; the job's receipt is the file of metrics."""
    from aeflow.judging.evaluation import evaluate

    return evaluate(asked, scores, scored, prepared, trained, statistics)


if __name__ == "__main__":
    job(evaluate_scores)
