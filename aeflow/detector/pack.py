"""From a trained cell of a study to one file, checked against the scores of the study."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow.core.errors import CheckpointError, ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import check_made, read_receipt, versions
from aeflow.core.tensors import read_facts, read_tensors
from aeflow.core.types import NORMAL, Method, Split
from aeflow.data.prepared import Prepared, open_prepared
from aeflow.detector.detector import BATCH, Detector, EncoderFacts, Kind, Member, Packed
from aeflow.methods.method import Rows
from aeflow.scoring.combine import components
from aeflow.scoring.score_images import MapScale
from aeflow.scoring.score_tables import read_scores
from aeflow.study import cells
from aeflow.study.asked import FuseAsked, JudgeAsked, MemberAsked, ScoreAsked
from aeflow.study.cells import Cell
from aeflow.study.entries import Variant
from aeflow.study.study import Study
from aeflow.training.checkpoints import check_checkpoint

logger = logging.getLogger(__name__)
# Of a score, between a study and its detector: sums in batches of another size, and a table's 7
# digits.
TOLERANCE = 1e-3
Scale = tuple[float, float] | None


class Packing(NamedTuple):
    """What was packed, and how it compares with the study."""

    detector: Detector
    images: int  # validation images that were scored again
    apart: float  # largest difference of a score, as a share of the range of the study's


def ensemble_of(study: Study, variant: str) -> tuple[Study, str]:
    """Return the name of the fusion of all seeds of a variant, and a study that has it.

    That is the study itself where it lists one.

    Raises:
        ConfigError: there is no such variant, or its seeds are no several models.
    """
    alone = study.variant(variant)
    if len(alone.members) == 1:
        return study, variant
    listed = [each.name for each in study.variants if each.members == [variant]]
    if listed:
        return study, listed[0]
    if alone.members or not study.draws(variant) or len(study.seeds) < 2:
        why = (
            "a fusion of several variants"
            if alone.members
            else "trained with one seed alone"
            if study.draws(variant)
            else "the same for every seed"
        )
        raise ConfigError(f"{variant} is {why}: pack it without --ensemble.")
    threshold, name = alone.settings.get("threshold"), f"{variant[:50]}_ensemble"
    while name in {each.name for each in study.all_variants}:
        name += "_"
    fusion = Variant(
        name=name,
        method=Method.FUSION,
        members=[variant],
        datasets=alone.datasets,
        settings={"threshold": threshold} if threshold else {},
    )
    return study.with_variant(fusion), fusion.name


def pack(study: Study, cell: Cell, target: Path, half: bool = False) -> Packing:
    """Write what was trained as one file.

    Where the prepared images are here, the detector scores the validation images again: the scores
    must be the study's, and the scales of its maps are measured.

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
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    detector, images, apart = Detector(facts, tensors), 0, 0.0
    tensors = _needed(detector, tensors)
    index = cells.path(study, "index", cell)
    if (arrays := cells.path(study, "images", cell)).is_file() and index.is_file():
        images, apart = _check(detector, open_prepared(arrays, index), half)
    elif half:
        raise DataError(
            f"{arrays} is not here (`dvc pull`): --half has to score the validation images again."
        )
    else:
        lacks = "there is no map" if facts.fused else "maps have no contour"
        logger.warning(
            "%s is not here (`dvc pull`): the scores were not compared with the study's, and %s.",
            *(arrays, lacks),
        )
    detector.save(target, tensors)
    return Packing(detector, images, apart)


def collect(study: Study, cell: Cell) -> tuple[Packed, dict[str, Tensor]]:
    """Return the content of a cell's detector, without the scales of its maps."""
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
    encoders: dict[str, EncoderFacts] = {}
    tensors: dict[str, Tensor] = {}
    for number, (part, score) in enumerate(scored):
        map_name = study.map_of(cell.dataset, part.variant)
        part = cells.table_of(study, part)
        asked = cells.asked(study, "score_images", part._asdict())
        assert isinstance(asked, ScoreAsked)
        members.append(Member(computes=asked, score=score, map=map_name))
        rows = _validation(study, part, made_from)
        labels = torch.from_numpy(rows["gt_label"].to_numpy(np.int64).copy())
        if number and not torch.equal(labels, tensors["validation.gt_label"]):
            raise DataError(f"The members of {cell.variant} were validated on other images.")
        tensors["validation.gt_label"] = labels
        tensors |= _columns(rows, f"validation.member{number}")
        if not asked.method.fitted:
            continue
        model, trained = (cells.path(study, name, part) for name in ("model", "trained"))
        made_from[model.as_posix()] = check_checkpoint(asked, model, trained).sha256(model)
        tensors |= _named(f"member{number}", read_tensors(model))
        name = asked.settings.encoder.name
        if name not in encoders:
            weights, fetched = (cells.path(study, n, part) for n in ("weights", "fetched_weights"))
            made_from[weights.as_posix()] = check_made(weights, fetched).sha256(weights)
            encoders[name] = EncoderFacts.model_validate(read_facts(weights))
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
        kinds=[
            Kind(**{key: each[key] for key in Kind.model_fields}) for each in prepared["kinds"]
        ],
        made_from=made_from,
        versions=versions(),
    )
    return facts, tensors


def _needed(detector: Detector, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without layers of frozen encoders that are after every stage read."""
    needed = dict(tensors)
    tuned = {each.computes.settings.encoder.name for each in detector.facts.members if each.tuned}
    for name in detector.encoders.keys() - tuned:
        (source, _), place = detector.encoders[name], f"encoder.{name}."
        assert source.encoder is not None
        layers = source.encoder.body.get_submodule("model").state_dict()
        for key in tensors:
            if key.startswith(place) and key.removeprefix(place) not in layers:
                del needed[key]
    return needed


def _halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise CheckpointError(
            f"{name} is beyond the range of half precision: pack it without --half."
        )
    return half


def _check(detector: Detector, prepared: Prepared, half: bool) -> tuple[int, float]:
    """Score the validation images again, and put the scales of the normal ones' maps in the facts.

    Returns:
        As in `Packing`: images, apart.
    """
    facts, limit, (gt_label, wanted) = (
        detector.facts,
        detector.threshold.value,
        detector.validation,
    )
    rows = prepared.rows(Split.VALIDATION)
    if len(rows) != len(wanted):
        raise CheckpointError(
            f"There are {len(rows)} validation images, and the study scored {len(wanted)}: run "
            "the study again."
        )
    found, scale, of_members = _scan(detector, prepared, rows, gt_label)
    other = 0 if limit is None else int(((found >= limit) != (wanted >= limit)).sum())
    if half and other:
        raise CheckpointError(
            f"In half precision {other} of {len(rows)} validation images get another verdict: "
            "pack it without --half."
        )
    apart = float(np.abs(found - wanted).max() / (np.ptp(wanted) or 1.0))
    if apart > TOLERANCE and not half:
        raise CheckpointError(
            "The detector's scores of the validation images differ from the study's by "
            f"{apart:.1%} of their range: images, weights or code have changed since. Run the "
            "study again."
        )
    both = zip(facts.members, of_members, strict=True)
    members = [each.model_copy(update={"map_scale": own}) for each, own in both]
    detector.facts = facts.model_copy(update={"members": members, "map_scale": scale})
    if facts.fused and any(of_members):  # its maps rest on its members' scales
        normals = rows[gt_label == NORMAL]
        _, scale, _ = _scan(detector, prepared, normals, np.full(len(normals), NORMAL))
        detector.facts = detector.facts.model_copy(update={"map_scale": scale})
    return len(rows), apart


def _scan(
    detector: Detector, prepared: Prepared, rows: Rows, gt_label: NDArray[np.int64]
) -> tuple[NDArray[np.float64], Scale, list[Scale]]:
    """Return the scores of some images, (N,), and the scales of the maps of the normal ones.

    Those of the detector's own maps, and of each member's.
    """
    found = np.empty(len(rows))
    scales = [MapScale() for _ in (None, *detector.facts.members)]
    for first in range(0, len(rows), BATCH):
        batch = slice(first, first + BATCH)
        examined = detector.examine(prepared.images[rows[batch]])
        found[batch] = examined.table["pred_score"]
        for each, scale in zip((examined.maps, *examined.member_maps), scales, strict=True):
            for one in () if each is None else each[gt_label[batch] == NORMAL]:
                scale.update(one)
    own, *of_members = [scale.compute() for scale in scales]
    return found, own, of_members


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
