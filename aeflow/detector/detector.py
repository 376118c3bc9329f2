"""A detector: one file with all that a new image needs, and what it says of images."""

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.schema import Strict
from aeflow.core.tensors import read_facts, read_tensors
from aeflow.core.types import NORMAL, Method, Split
from aeflow.data.decode import decode_image
from aeflow.data.intensity import Levels
from aeflow.encoder.encoder import Encoder, build_encoder
from aeflow.encoder.features import FeatureSource, encode, row_type
from aeflow.judging.thresholds import Threshold, fit_threshold
from aeflow.methods.method import Scorer, detector_of
from aeflow.scoring.combine import fused_table, pred_score
from aeflow.study.asked import MemberAsked, ScoreAsked, VariantAsked
from aeflow.study.settings import DataSettings, ThresholdSettings
from aeflow.training.checkpoints import restore
from aeflow.training.devices import set_up

BATCH = 16
Pixels = NDArray[np.uint8]
Scores = NDArray[np.float64]
Picture = Path | str | Pixels | Image.Image


class Member(Strict):
    """A trained model, or the gradient: what it computes, and what makes that its score."""

    computes: ScoreAsked
    score: MemberAsked

    @property
    def tuned(self) -> bool:
        """Whether it has an encoder of its own."""
        return self.computes.method.ours and self.computes.settings.encoder.finetune


class Packed(Strict):
    """What a detector's file says, beside its tensors."""

    study: str
    dataset: str
    category: str
    variant: str
    judged: VariantAsked
    members: list[Member]
    encoders: dict[str, dict[str, str]]  # name -> the facts of its weights
    data: DataSettings
    levels: tuple[float, float] | None  # that become black and white, where they were measured
    kinds: list[dict[str, Any]]  # of the images that it was made with (`prepare.image_kinds`)
    # Of the maps of the validation normals: their median, and what 95 % of them are nowhere above.
    map_scale: tuple[float, float] | None
    made_from: dict[str, str]  # path -> SHA-256
    versions: dict[str, str]


class Examined(NamedTuple):
    """What a detector says of B images."""

    # A row per image: pred_score, p_value, pred_label (-1: there is no threshold), then every
    # component; of a fusion with the member's name before it.
    table: pd.DataFrame
    maps: NDArray[np.float32] | None  # (B, S, S), higher is more anomalous; None: it has none


class Detector:
    """Scores, p-values, verdicts and maps of new images; `load` reads one.

    Attributes:
        facts: where it comes from, and how it treats images.
        threshold: fitted on the validation images by the rule it was trained with, or by the last
            `operate`. An image with a score at or above its value is anomalous.
    """

    def __init__(self, facts: Packed, tensors: Mapping[str, Tensor]) -> None:
        side = facts.data.image_size
        self.facts = facts
        self._images = np.zeros((BATCH, side, side, 3), np.uint8)
        self._encoders: list[tuple[FeatureSource, NDArray[np.void]]] = []
        self._scorers = self._build(tensors)
        self._gradient: Scorer = detector_of(Method.GRADIENT)(self._images)
        gt_label = tensors["validation.gt_label"].numpy().astype(np.int64)
        names = [f"member{number}" for number in range(len(facts.members))]
        self._known = [_table(_below(tensors, f"validation.{name}"), gt_label) for name in names]
        complexity = _below(tensors, "validation.complexity")
        self._complexity = _table(complexity, gt_label) if complexity else None
        self.validation = gt_label, self._score(self._known, self._complexity)
        self.threshold = fit_threshold(*self.validation, facts.judged.threshold)

    @classmethod
    def load(cls, path: Path | str) -> "Detector":
        """Read what `aeflow pack` wrote. Nothing is unpickled.

        Raises:
            DataError: the file is missing, damaged, no detector, or of another version.
            CheckpointError: its parts do not fit together.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing: `aeflow pack` makes a detector.")
        told = read_facts(path).get("detector")
        if told is None:
            raise DataError(f"{path} is no detector: `aeflow pack` makes one of a variant.")
        try:
            facts = Packed.model_validate_json(told)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise DataError(
                f"{path} was packed by another version of aeflow ({key}): pack it again."
            ) from error
        try:
            return cls(facts, read_tensors(path))
        except (KeyError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{path} is no whole detector ({why}): pack it again."
            ) from error

    def _build(self, tensors: Mapping[str, Tensor]) -> list[Scorer]:
        """Build what scores the images of `_images`; one pass of an encoder serves all members."""
        facts, frozen = self.facts, dict[str, set[int]]()
        for each in facts.members:
            settings, method = each.computes.settings, each.computes.method
            if method.fitted and not each.tuned:
                frozen.setdefault(settings.encoder.name, set()).update(settings.stages_of(method))
        shared: dict[str, NDArray[np.void]] = {}
        built: list[Scorer] = []
        for number, each in enumerate(facts.members):
            computes = each.computes
            settings, method = computes.settings, computes.method
            if not method.fitted:
                built.append(detector_of(method)(self._images))
                continue
            device = set_up(settings.training, peer=method.peer)
            name, wanted = settings.encoder.name, list(settings.stages_of(method))
            normalise = settings.features.normalise
            if each.tuned:
                encoder = self._encoder(tensors, name, wanted, device, finetune=True)
                features = FeatureSource(self._images, device, None, encoder, normalise)
            else:
                if name not in shared:
                    encoder = self._encoder(tensors, name, sorted(frozen[name]), device)
                    whole = FeatureSource(self._images, device, None, encoder)
                    shared[name] = np.zeros(BATCH, row_type(whole))
                    self._encoders.append((whole, shared[name]))
                cache = shared[name][list(map(str, wanted))]
                features = FeatureSource(self._images, device, cache, None, normalise)
            learner = detector_of(method)(features, settings, method)
            restore(learner, _below(tensors, f"member{number}"), computes)
            built.append(learner)
        return built

    def _encoder(
        self,
        tensors: Mapping[str, Tensor],
        name: str,
        stages: list[int],
        device: torch.device,
        finetune: bool = False,
    ) -> Encoder:
        weights = _below(tensors, f"encoder.{name}")
        encoder = build_encoder(self.facts.encoders[name], weights, stages, finetune)
        return encoder.to(device).to(memory_format=torch.channels_last)

    def operate(self, rule: ThresholdSettings) -> Threshold:
        """Fit the threshold on the validation images again, by another rule."""
        self.threshold = fit_threshold(*self.validation, rule)
        return self.threshold

    def told(self) -> str:
        """Return the threshold and what it was fitted to, as part of a sentence."""
        fitted, gt_label = self.threshold, self.validation[0]
        if fitted.value is None:
            return f"no threshold ({fitted.reason})"
        normals = int((gt_label == NORMAL).sum())
        behind = {"given": "as told", "normal_quantile": f"{normals} validation normals"}
        rule = str(fitted.rule)
        fitted_to = behind.get(rule, f"{len(gt_label)} validation images")
        return f"threshold {fitted.value:.6g} ({rule}, {fitted_to})"

    def examine(self, images: Pixels) -> Examined:
        """Score prepared images, (B, S, S, 3) uint8, B at most `BATCH`."""
        rows = np.arange(len(images))
        self._images[rows] = images
        with torch.inference_mode():
            for source, cache in self._encoders:
                cache[rows] = encode(source, rows)
        scored = [scorer.score(rows) for scorer in self._scorers]
        found = [pd.DataFrame(each.components) for each in scored]
        tables = [_with(known, new) for known, new in zip(self._known, found, strict=True)]
        complexity = self._complexity
        if complexity is not None:
            complexity = _with(complexity, pd.DataFrame(self._gradient.score(rows).components))
        scores = self._score(tables, complexity)[-len(images) :]
        normals = np.sort(self.validation[1][self.validation[0] == NORMAL])
        higher = len(normals) - np.searchsorted(normals, scores)
        limit = self.threshold.value
        table = pd.DataFrame(
            {
                "pred_score": scores,
                "p_value": (1 + higher) / (1 + len(normals)),
                "pred_label": -1 if limit is None else (scores >= limit).astype(np.int64),
            }
        )
        single, name = len(found) == 1, self.facts.judged.map
        named = [
            new if single else new.add_prefix(f"{each.score.name}.")
            for new, each in zip(found, self.facts.members, strict=True)
        ]
        maps = scored[0].maps.get(name) if single and name else None
        return Examined(pd.concat([table, *named], axis=1), maps)

    def _score(self, tables: list[pd.DataFrame], complexity: pd.DataFrame | None) -> Scores:
        """Return the scores of tables that begin with the validation images."""
        judged, table = self.facts.judged, tables[0]
        if judged.method == Method.FUSION:
            table = fused_table(tables, [each.score for each in self.facts.members], complexity)
        return pred_score(table, judged.method, judged.score, complexity)

    def _prepared(self, images: Iterable[Picture]) -> Iterator[Pixels]:
        """Yield images as they are prepared for training, (B, S, S, 3)."""
        levels = self.facts.levels and Levels(*self.facts.levels)
        left = iter(images)
        while chunk := list(islice(left, BATCH)):
            yield np.stack([_pixels(each, self.facts.data, levels) for each in chunk])

    def predictions(self, images: Iterable[Picture]) -> pd.DataFrame:
        """Return the table of `Examined` for any number of images: paths, arrays or PIL's.

        Arrays are (H, W) or (H, W, 3), uint8 or uint16. Paths are read as the files of a study.

        Raises:
            DataError: an image cannot be used; names it.
        """
        tables = [self.examine(batch).table for batch in self._prepared(_several(images))]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def map(self, image: Picture) -> NDArray[np.float32]:
        """Return the anomaly map of an image, (S, S), S the `data.image_size` of the study.

        Raises:
            DataError: the detector has no map (fusions have none), or the image cannot be used.
        """
        (batch,) = self._prepared([image])
        maps = self.examine(batch).maps
        if maps is None:
            raise DataError(f"The variant {self.facts.variant} has no anomaly map.")
        first: NDArray[np.float32] = maps[0]
        return first

    def score_samples(self, images: Iterable[Picture]) -> Scores:
        """Return the negated score of each image, (N,): lower is more anomalous (scikit-learn)."""
        return -self.predictions(images)["pred_score"].to_numpy(np.float64)

    def decision_function(self, images: Iterable[Picture]) -> Scores:
        """Return threshold - score, (N,): at 0 and below an image is anomalous (scikit-learn).

        Raises:
            DataError: there is no threshold.
        """
        if self.threshold.value is None:
            raise DataError(f"There is no threshold. {self.threshold.reason}")
        return self.threshold.value + self.score_samples(images)

    def predict(self, images: Iterable[Picture]) -> NDArray[np.int64]:
        """Return -1 for each anomalous image and 1 for each normal one, (N,) (scikit-learn).

        Raises:
            DataError: there is no threshold.
        """
        return np.where(self.decision_function(images) <= 0, -1, 1)


def _several(images: Any) -> Iterable[Picture]:
    """Return images; a path, which is iterable too, or a single picture as a list of one."""
    single = isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 4) < 3
    return [images] if single else images


def _pixels(image: Picture, data: DataSettings, levels: Levels | None) -> Pixels:
    """Return an image as it is prepared, (S, S, 3)."""
    name, content = "An image", b""
    if isinstance(image, str | Path):
        name, content = str(image), _read(Path(image))
    else:
        picture = image if isinstance(image, Image.Image) else _picture(image)
        file = BytesIO()
        picture.save(file, "TIFF" if picture.mode == "F" else "PNG", compress_level=1)
        content = file.getvalue()
    try:
        return decode_image(content, data, levels).pixels
    except DataError as error:
        raise DataError(f"{name} cannot be used: {error}.") from error


def _picture(array: NDArray[Any]) -> Image.Image:
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3):
        raise DataError(
            f"An array of {array.dtype} {array.shape} is no image: (H, W) of uint8 or uint16, or "
            "(H, W, 3) of uint8."
        )
    return Image.fromarray(array)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _below(tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `place` and a dot, without these."""
    start = f"{place}."
    return {n.removeprefix(start): each for n, each in tensors.items() if n.startswith(start)}


def _table(components: Mapping[str, Tensor], gt_label: NDArray[np.int64]) -> pd.DataFrame:
    """Return the score table of the validation images, whose names nobody needs."""
    rows = {name: values.numpy() for name, values in components.items()}
    names = [f"validation {number}" for number in range(len(gt_label))]
    known = {"image_id": names, "split": str(Split.VALIDATION), "gt_label": gt_label, "defect": ""}
    return pd.DataFrame(known | rows)


def _with(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the score table of the validation images and of new ones."""
    names = [f"new {number}" for number in range(len(new))]
    rows = new.assign(image_id=names, split=str(Split.TEST), gt_label=NORMAL, defect="")
    both: pd.DataFrame = pd.concat([known, rows], ignore_index=True)
    return both
