"""A detector: one file with all that a new image needs, and what it says of images."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from aeflow.core.errors import AeflowError, DataError
from aeflow.core.schema import Strict
from aeflow.core.tensors import read_facts, read_tensors, save_tensors
from aeflow.core.text import one_line
from aeflow.core.types import NORMAL, Method, Split
from aeflow.data.decode import decode_image
from aeflow.data.intensity import Levels
from aeflow.encoder.encoder import Encoder, build_encoder
from aeflow.encoder.features import FeatureSource, encode, row_type
from aeflow.judging.thresholds import Threshold, fit_threshold
from aeflow.methods.method import Scorer, detector_of
from aeflow.scoring.combine import components, fused_table, pred_score
from aeflow.scoring.score_tables import DIGITS
from aeflow.study.asked import MemberAsked, ScoreAsked, VariantAsked
from aeflow.study.settings import DataSettings, FitSettings, ThresholdSettings
from aeflow.training.checkpoints import restore
from aeflow.training.devices import set_up

BATCH = 16
Pixels = NDArray[np.uint8]
Scores = NDArray[np.float64]
Picture = Path | str | Pixels | Image.Image


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"{pair[0]} is above {pair[1]}")
    return pair


def _of_colours(text: str) -> str:
    """Check a mean or sd of red, green and blue, which weights have as JSON."""
    value = Annotated[float, Field(allow_inf_nan=False)]
    TypeAdapter(tuple[value, value, value]).validate_json(text)
    return text


Pair = Annotated[tuple[float, float], AfterValidator(_ascending)]
Pixel = Annotated[int, Field(ge=1, le=10**9)]
OfColours = Annotated[str, AfterValidator(_of_colours)]


class Kind(Strict):
    """Images of one depth that a detector was made with; sizes are width and height."""

    bits: Annotated[int, Field(ge=1, le=64)]
    smallest: tuple[Pixel, Pixel]
    largest: tuple[Pixel, Pixel]


class EncoderFacts(Strict):
    """What makes an encoder, its weights aside (`build_encoder`)."""

    library: Literal["timm", "torchvision"]
    # A library's own: what timm finds elsewhere has a colon or a slash.
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    mean: OfColours
    sd: OfColours


class Member(Strict):
    """A trained model, or the gradient: what it computes, and what makes that its score."""

    computes: ScoreAsked
    score: MemberAsked
    map: str | None = Field(description="Its anomaly map's name.")
    map_scale: Pair | None = Field(
        None,
        description="Of its maps of the validation normals: their median, and what 95 % of them "
        "are nowhere above. null: it has none, or the images were not there.",
    )

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
    members: list[Member] = Field(min_length=1)
    encoders: dict[str, EncoderFacts]
    data: DataSettings
    levels: Pair | None  # that become black and white, where they were measured
    kinds: list[Kind]
    map_scale: Pair | None = None  # as a member's, of the detector's own maps
    made_from: dict[str, str]  # path -> SHA-256
    versions: dict[str, str]

    @property
    def fused(self) -> bool:
        """Whether several models, or one as if it were several, make the score."""
        return self.judged.method == Method.FUSION

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        names = [each.score.name for each in self.members]
        methods = [each.score.method for each in self.members]
        if methods != [each.computes.method for each in self.members] or Method.FUSION in methods:
            raise ValueError("a member does not compute what it is scored by")
        if not self.fused and methods != [self.judged.method]:
            raise ValueError(f"the members make no {self.judged.method}")
        if len(set(names)) < len(names):
            raise ValueError("two members have one name")
        needed = {e.computes.settings.encoder.name for e in self.members if e.score.method.fitted}
        if lacking := needed - self.encoders.keys():
            raise ValueError(f"the encoder {min(lacking)} is not there")
        return self


class Examined(NamedTuple):
    """What a detector says of B images."""

    # A row per image: pred_score, p_value, pred_label (-1: there is no threshold), then every
    # component; of a fusion with the member's name before it.
    table: pd.DataFrame
    # (B, S, S), higher is more anomalous; None: it has none. Of a fusion the mean of its members',
    # each on the scale of its validation normals: 0 their median, 1 what most are nowhere above.
    maps: NDArray[np.float32] | None
    member_maps: list[NDArray[np.float32] | None]  # as each member makes them


class Term(NamedTuple):
    """What a component adds to a score: weight * (component - centre)."""

    member: int
    component: str
    weight: float
    centre: float


class Detector:
    """Scores, p-values, verdicts and maps of new images; `load` reads one.

    >>> folder = "results/demo/detectors"
    >>> brick = Detector.load(f"{folder}/demo_textures-brick-recommended-seed0.safetensors")
    >>> black = np.zeros((200, 300), np.uint8)  # a path or an image of PIL is as good
    >>> brick.predictions([black])[["pred_label"]].to_dict("records")
    [{'pred_label': 1}]
    >>> brick.map(black).shape
    (128, 128)

    Attributes:
        facts: where it comes from, and how it treats images.
        threshold: fitted on the validation images by the rule it was trained with, or by the last
            `operate`. An image with a score at or above its value is anomalous.
        validation: labels and scores of the validation images.
        scorers: of each member.
        encoders: frozen ones by name, with what they made of the images under examination.
    """

    def __init__(self, facts: Packed, tensors: Mapping[str, Tensor]) -> None:
        side = facts.data.image_size
        self.facts = facts
        self._images = np.zeros((BATCH, side, side, 3), np.uint8)
        self.encoders: dict[str, tuple[FeatureSource, NDArray[np.void]]] = {}
        self.scorers = self._build(tensors)
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
            DataError: the file is missing, damaged, no detector, of another version, or its parts
                do not fit together.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing: `aeflow pack` makes a detector.")
        written = read_facts(path)
        told = written.get("detector")
        if told is None:
            raise DataError(f"{path} is no detector: `aeflow pack` makes one of a variant.")
        try:
            facts = Packed.model_validate_json(told)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            why = one_line(f"{key}: {first['msg']}" if key else first["msg"])[:200]
            raise DataError(
                f"{path} was packed by another version of aeflow, or changed ({why}): pack it "
                "again."
            ) from error
        tensors = read_tensors(path)
        if (known := written.get("sha256")) and known != digest_of(told, tensors):
            raise DataError(f"{path} is not as it was packed: copy it again, or pack it again.")
        try:
            detector = cls(facts, tensors)
            # Parts that do not fit are told now, not amid images.
            made = set(detector.examine(detector._images[:1]).table.columns)
            if lacking := made ^ {"pred_score", "p_value", "pred_label", *detector.components}:
                raise DataError(f"{min(lacking)} is made, or known of validation, but not both.")
            return detector
        except AeflowError as error:
            raise DataError(f"{path} cannot be used: {error}") from error
        except Exception as error:  # torch and the encoders' libraries raise whatever they do
            why = one_line(f"{type(error).__name__}: {error}")[:200]
            raise DataError(f"{path} is no whole detector ({why}): pack it again.") from error

    def save(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write what `load` reads, of the tensors that it was made of."""
        told = self.facts.model_dump_json()
        save_tensors(path, dict(tensors), {"detector": told, "sha256": digest_of(told, tensors)})

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
            settings, method = _here(computes.settings), computes.method
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
                    self.encoders[name] = whole, shared[name]
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
        facts = self.facts.encoders[name].model_dump()
        encoder = build_encoder(facts, weights, stages, finetune)
        return encoder.to(device).to(memory_format=torch.channels_last)

    @property
    def components(self) -> list[str]:
        """The names of the scores that the model makes, in the table of `Examined`."""
        known = zip(self.facts.members, self._known, strict=True)
        return [self._column(each, name) for each, table in known for name in components(table)]

    def _column(self, member: Member, component: str) -> str:
        alone = len(self.facts.members) == 1
        return component if alone else f"{member.score.name}.{component}"

    def operate(self, rule: ThresholdSettings) -> Threshold:
        """Fit the threshold on the validation images again, by another rule.

        >>> import aeflow
        >>> demo = aeflow.load("results/demo")
        >>> brick = demo.detector("demo_textures", "recommended", "brick")
        >>> rule = ThresholdSettings(rule="specificity", specificity=0.5)
        >>> brick.operate(rule)
        Threshold(value=..., rule='specificity', ...)
        """
        self.threshold = fit_threshold(*self.validation, rule)
        return self.threshold

    def told(self) -> str:
        """Return the threshold and what it was fitted to, as part of a sentence."""
        fitted = self.threshold
        if fitted.value is None:
            return f"no threshold ({fitted.reason})"
        counts = {"normal": fitted.normal, "anomalous": fitted.anomalous}
        behind = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
        images = f", of {behind} validation images" if behind else ""
        return f"threshold {fitted.value:.6g} ({fitted.asked}{images})"

    def examine(self, images: Pixels) -> Examined:
        """Score prepared images, (B, S, S, 3) uint8, B at most `BATCH`."""
        rows = np.arange(len(images))
        self._images[rows] = images
        with torch.inference_mode():
            for source, cache in self.encoders.values():
                cache[rows] = encode(source, rows)
        scored = [scorer.score(rows) for scorer in self.scorers]
        found = [_written(each.components) for each in scored]
        tables = [_with(known, new) for known, new in zip(self._known, found, strict=True)]
        complexity = self._complexity
        if complexity is not None:
            complexity = _with(complexity, _written(self._gradient.score(rows).components))
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
        members = self.facts.members
        named = [
            new.rename(columns=partial(self._column, each))
            for new, each in zip(found, members, strict=True)
        ]
        maps = [one.maps.get(str(each.map)) for one, each in zip(scored, members, strict=True)]
        return Examined(pd.concat([table, *named], axis=1), self._map(maps), maps)

    def _map(self, maps: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
        if not self.facts.fused:
            return maps[0]
        scaled = [
            (each - member.map_scale[0]) / np.float32(np.ptp(member.map_scale) or 1)
            for each, member in zip(maps, self.facts.members, strict=True)
            if each is not None and member.map_scale is not None
        ]
        return np.mean(scaled, axis=0, dtype=np.float32) if scaled else None

    def _score(self, tables: list[pd.DataFrame], complexity: pd.DataFrame | None) -> Scores:
        """Return the scores of tables that begin with the validation images."""
        judged, table = self.facts.judged, tables[0]
        if self.facts.fused:
            table = fused_table(tables, [each.score for each in self.facts.members], complexity)
        return pred_score(table, judged.method, judged.score, complexity)

    def weighted(self) -> tuple[float, list[Term]]:
        """Return the score as a constant and a weighted sum, if no component is corrected.

        Measured, not derived, since only `pred_score` knows how components become a score: the
        score of the validation images' mean, and how far it moves with each component.
        """
        every = [(n, name) for n, table in enumerate(self._known) for name in components(table)]
        known = np.array([self._known[n][name] for n, name in every])  # (components, N)
        centre = known.mean(1)
        step = np.maximum(known.std(1), 1e-6 * np.abs(centre))
        step = np.where(np.isfinite(step) & (step > 0), step, 1.0)  # of one that is not read
        moved = np.vstack([centre, centre + np.diag(step)])  # nothing, then each in turn
        tables = []
        for n, table in enumerate(self._known):
            columns = {name: moved[:, k] for k, (m, name) in enumerate(every) if m == n}
            tables.append(_with(table, pd.DataFrame(columns)))
        first, *others = self._score(tables, None)[-len(moved) :]
        weights = (np.array(others) - first) / step
        terms = zip(every, weights.tolist(), centre.tolist(), strict=True)
        return float(first), [Term(n, name, w, c) for (n, name), w, c in terms if w]

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
        names = ["pred_score", "p_value", "pred_label", *self.components]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)

    def map(self, image: Picture) -> NDArray[np.float32]:
        """Return the anomaly map of an image, (S, S), S the `data.image_size` of the study.

        Raises:
            DataError: the detector has no map, or the image cannot be used.
        """
        (batch,) = self._prepared([image])
        maps = self.examine(batch).maps
        if maps is None:
            more = " that was packed with its validation images" * self.facts.fused
            raise DataError(f"The variant {self.facts.variant} has no anomaly map{more}.")
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


def digest_of(told: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a detector's content: of a flipped bit nothing else would tell."""
    digest = hashlib.sha256(told.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _here(settings: FitSettings) -> FitSettings:
    """Return the settings of a training for scoring, on a machine that may have no such GPU."""
    training = settings.training
    device = "cpu" if training.device == "cpu" else "auto"
    training = training.model_copy(update={"device": device, "compile": False})
    return settings.model_copy(update={"training": training})


def _several(images: Any) -> Iterable[Picture]:
    """Return images; a path, which is iterable too, or a single picture as a list of one."""
    # Several paths have a shape too, where they are a column of a table or an array.
    shape: tuple[int, ...] = getattr(images, "shape", ())
    single = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    return [images] if single or isinstance(images, str | Path | Image.Image) else images


def _pixels(image: Picture, data: DataSettings, levels: Levels | None) -> Pixels:
    """Return an image as it is prepared, (S, S, 3)."""
    name, content = "An image", b""
    if isinstance(image, str | Path):
        name, content = str(image), _read(Path(image))
    else:
        picture = image if isinstance(image, Image.Image) else _picture(image)
        picture = picture.convert("RGB") if picture.mode == "CMYK" else picture
        file = BytesIO()
        kind = "TIFF" if picture.mode == "F" else "PNG"
        picture.save(file, kind, compress_level=1, exif=picture.getexif())
        content = file.getvalue()
    try:
        return decode_image(content, data, levels).pixels
    except DataError as error:
        raise DataError(f"{name} cannot be used: {error}.") from error


def _picture(array: NDArray[Any]) -> Image.Image:
    array = np.asarray(array)
    gray = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if not gray and (array.shape[2:] != (3,) or array.dtype != np.uint8):
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


def _table(scores: Mapping[str, Tensor], gt_label: NDArray[np.int64]) -> pd.DataFrame:
    """Return the score table of the validation images, whose names nobody needs."""
    rows = {name: values.numpy() for name, values in scores.items()}
    names = [f"validation {number}" for number in range(len(gt_label))]
    known = {"image_id": names, "split": str(Split.VALIDATION), "gt_label": gt_label, "defect": ""}
    return pd.DataFrame(known | rows)


def _written(raw: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Return components as score tables have them.

    A threshold is such a number: unrounded, half of the images that it is of were below it.
    """
    return pd.DataFrame(raw).map(lambda value: float(f"{value:.{DIGITS}g}"))


def _with(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the score table of the validation images and of new ones."""
    names = [f"new {number}" for number in range(len(new))]
    rows = new.assign(image_id=names, split=str(Split.TEST), gt_label=NORMAL, defect="")
    both: pd.DataFrame = pd.concat([known, rows], ignore_index=True)
    return both
