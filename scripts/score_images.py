"""Compute every score component of the validation and test images (aeflow.scoring)."""

from pathlib import Path
from typing import Any

from aeflow.study.asked import ScoreAsked
from aeflow.study.job import job


def score_images(
    asked: ScoreAsked,
    images: Path,
    index: Path,
    masks: Path | None,
    features: Path | None,
    weights: Path | None,
    model: Path | None,
    trained: Path | None,
    scores: Path,
    gallery: Path,
) -> dict[str, Any]:
    """Write the score table and the gallery; return the metrics of the maps."""
    from aeflow.data.prepared import open_prepared
    from aeflow.methods.method import Scorer, detector_of
    from aeflow.scoring import score_images as scoring
    from aeflow.scoring.gallery import write_gallery
    from aeflow.scoring.score_tables import write_scores

    prepared = open_prepared(images, index, masks)
    scorer: Scorer
    if features and weights and model and trained:
        from aeflow.training.checkpoints import load_learner  # torch, which the gradient needs not

        files = (index, features, weights, model, trained)
        scorer = load_learner(asked, prepared.images, *files)
    else:
        scorer = detector_of(asked.method)(prepared.images)
    scored = scoring.score_images(prepared, scorer, asked.fpr_limit)
    write_scores(scores, scored.table)
    write_gallery(gallery, scored.gallery)
    return {"pixel": scored.pixel}


if __name__ == "__main__":
    job(score_images)
