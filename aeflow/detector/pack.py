"""From a trained cell of a study to one file, checked against the scores of the study."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import check_made, read_receipt, versions
from aeflow.core.tensors import read_facts, read_tensors, save_tensors
from aeflow.core.types import NORMAL, Method, Split
from aeflow.data.prepared import open_prepared
from aeflow.detector.detector import BATCH, Detector, Member, Packed
from aeflow.scoring.combine import components
from aeflow.scoring.score_tables import read_scores
from aeflow.study import cells
from aeflow.study.asked import FuseAsked, JudgeAsked, MemberAsked, ScoreAsked
from aeflow.study.cells import Cell
from aeflow.study.study import Study
from aeflow.training.checkpoints import check_checkpoint

logger = logging.getLogger(__name__)
MAP_QUANTILE = 0.95
# Of a score, between a study and its detector: sums in batches of another size, and a table's 7
# digits.
TOLERANCE = 1e-3


def pack(study: Study, cell: Cell, target: Path, half: bool = False) -> Detector:
    """Write what was trained as one file, and return it.

    Where the prepared images are here, the detector scores the validation images again: the scores
    must be the study's, and the limit of its map is measured.

    Args:
        cell: also of a fusion, whose members are packed together.
        target: a .safetensors file.
        half: keep weights in half precision, at half the size.

    Raises:
        ConfigError: the study has no such cell.
        DataError, CheckpointError: something that the cell needs is not here, was changed, or
            gives other scores; with `half`, a validation image would get another verdict.
    """
    facts, tensors = collect(study, cell)
    if half:
        tensors = {
            name: tensor.half() if tensor.dtype == torch.float32 else tensor
            for name, tensor in tensors.items()
        }
    detector = Detector(facts, tensors)
    images, index = (cells.path(study, name, cell) for name in ("images", "index"))
    if images.is_file() and index.is_file():
        scale = _check(detector, images, index, half)
        detector.facts = facts.model_copy(update={"map_scale": scale})
    elif half:
        raise DataError(
            f"{images} is not here (`dvc pull`): --half has to score the validation images again."
        )
    else:
        logger.warning(
            "%s is not here (`dvc pull`): the scores were not compared with the study's, and maps "
            "have no contour.",
            images,
        )
    save_tensors(target, tensors, {"detector": detector.facts.model_dump_json()})
    return detector


def collect(study: Study, cell: Cell) -> tuple[Packed, dict[str, Tensor]]:
    """Return the content of a cell's detector, without the limit of its map."""
    variant = study.variant(cell.variant)
    table = cells.table_of(study, cell)
    given = table._asdict()
    judging = cells.asked(study, "evaluate_scores", given)
    assert isinstance(judging, JudgeAsked)
    judged = judging.variants[cell.variant]
    if variant.method == Method.FUSION:
        fusing = cells.asked(study, "fuse_scores", given)
        assert isinstance(fusing, FuseAsked)
        scored = zip(cells.members_of(study, cell), fusing.members, strict=True)
    else:
        alone = MemberAsked(name=cell.variant, method=variant.method, score=judged.score)
        scored = zip([cell], [alone], strict=True)
    made_from: dict[str, str] = {}
    members: list[Member] = []
    encoders: dict[str, dict[str, str]] = {}
    tensors: dict[str, Tensor] = {}
    for number, (part, score) in enumerate(scored):
        part = cells.table_of(study, part)
        asked = cells.asked(study, "score_images", part._asdict())
        assert isinstance(asked, ScoreAsked)
        members.append(Member(computes=asked, score=score))
        known = _validation(study, part, made_from)
        labels = torch.from_numpy(known["gt_label"].to_numpy(np.int64).copy())
        if number and not torch.equal(labels, tensors["validation.gt_label"]):
            raise DataError(f"The members of {cell.variant} were validated on other images.")
        tensors["validation.gt_label"] = labels
        tensors |= _columns(known, f"validation.member{number}")
        if not asked.method.fitted:
            continue
        model, trained = (cells.path(study, name, part) for name in ("model", "trained"))
        made_from[model.as_posix()] = check_checkpoint(asked, model, trained).sha256(model)
        tensors |= _named(f"member{number}", read_tensors(model))
        name = asked.settings.encoder.name
        if name not in encoders:
            weights, fetched = (cells.path(study, n, part) for n in ("weights", "fetched_weights"))
            made_from[weights.as_posix()] = check_made(weights, fetched).sha256(weights)
            encoders[name] = read_facts(weights)
            tensors |= _named(f"encoder.{name}", read_tensors(weights))
    if any(s.correct != "none" for s in (judged.score, *(m.score.score for m in members))):
        complexity = _validation(study, cells.statistics_of(study, cell), made_from)
        tensors |= _columns(complexity, "validation.complexity")
    prepared = read_receipt(cells.path(study, "prepared", cell)).facts
    facts = Packed(
        study=study.study,
        dataset=cell.dataset,
        category=cell.category,
        variant=cell.variant,
        judged=judged,
        members=members,
        encoders=encoders,
        data=study.data,
        levels=prepared["intensity"]["levels"],
        kinds=prepared["kinds"],
        map_scale=None,
        made_from=made_from,
        versions=versions(),
    )
    return facts, tensors


def _check(
    detector: Detector, images: Path, index: Path, half: bool
) -> tuple[float, float] | None:
    """Score the validation images again; return the scale of the normal ones' maps."""
    prepared = open_prepared(images, index)
    rows = prepared.rows(Split.VALIDATION)
    gt_label, wanted = detector.validation
    found, medians, highest = np.empty_like(wanted), list[float](), list[float]()
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        examined = detector.examine(prepared.images[batch])
        found[first : first + BATCH] = examined.table["pred_score"]
        if examined.maps is not None:
            normal = gt_label[first : first + BATCH] == NORMAL
            medians += np.median(examined.maps[normal], axis=(1, 2)).tolist()
            highest += examined.maps[normal].max(axis=(1, 2)).tolist()
    limit = detector.threshold.value
    other = 0 if limit is None else int(((found >= limit) != (wanted >= limit)).sum())
    if half and other:
        raise CheckpointError(
            f"In half precision {other} of {len(rows)} validation images get another verdict: "
            "pack it without --half."
        )
    apart = float(np.abs(found - wanted).max() / (np.ptp(wanted) or 1.0))
    logger.info("%d validation images: scores differ by %.1e of their range", len(rows), apart)
    if apart > TOLERANCE and not half:
        raise CheckpointError(
            "The detector's scores of the validation images differ from the study's by "
            f"{apart:.1%} of their range: images, weights or code have changed since. Run the "
            "study again."
        )
    if not highest:
        return None
    return float(np.median(medians)), float(np.quantile(highest, MAP_QUANTILE))


def _validation(study: Study, cell: Cell, made_from: dict[str, str]) -> pd.DataFrame:
    path = cells.path(study, "scores", cell)
    table = read_scores(path)
    made_from[path.as_posix()] = sha256_file(path)
    known: pd.DataFrame = table[table["split"] == Split.VALIDATION]
    return known


def _columns(table: pd.DataFrame, place: str) -> dict[str, Tensor]:
    values = {name: table[name].to_numpy(np.float64).copy() for name in components(table)}
    return {f"{place}.{name}": torch.from_numpy(each) for name, each in values.items()}


def _named(place: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{place}.{name}": tensor for name, tensor in tensors.items()}
