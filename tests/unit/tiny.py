"""A study small enough for unit tests: images of 32 x 32, made-up features, no encoder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aeflow.core.files import sha256_file
from aeflow.core.receipts import write_receipt
from aeflow.core.types import INDEX_COLUMNS, AnomalyMap, Method
from aeflow.data.prepared import UNKNOWN, Prepared, open_prepared
from aeflow.study.asked import FitAsked, ScoreAsked
from aeflow.study.settings import FitSettings

if TYPE_CHECKING:
    from aeflow.models.aeflow import AEFlow

SIDE, GRID, CHANNELS = 32, 4, 6
Group = tuple[str, int, str, int, bool]
# (split, gt_label, defect, number of images, whether they have masks)
GROUPS = (
    ("train", 0, "good", 12, False),
    ("validation", 0, "good", 4, False),
    ("validation", 1, "NA", 3, False),
    ("test", 0, "good", 3, False),
    ("test", 1, "hole", 3, True),
    ("test", 1, "NA", 1, False),
)
SHARES = [0.03, 0.25]  # of 16 positions: 1 and 4
SETTINGS: dict[str, Any] = {
    "encoder": {"stages": 2},  # 32 / 4 pixels from one position to the next
    "flow": {"steps": 2},
    "training": {
        "epochs": 4,
        "batch_size": 5,
        "lr": 0.01,
        "weight_decay": 0.0,
        "threads": 1,
        "device": "cpu",
    },
}


def cache_of(features: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return features, stage -> (N, h, w, C), as the cache holds them."""
    row = [(str(stage), "<f2", each.shape[1:]) for stage, each in features.items()]
    cache = np.empty(len(next(iter(features.values()))), row)
    for stage, each in features.items():
        cache[str(stage)] = each
    return cache


class TinyStudy:
    """Prepared arrays and cached features in a folder, their rows in no particular order.

    Args:
        folder: where they lie.
        groups: what images there are, as GROUPS.
    """

    def __init__(self, folder: Path, groups: Sequence[Group] = GROUPS) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        kinds = [(*group[:3], group[4]) for group in groups for _ in range(group[3])]
        self.rows: list[dict[str, Any]] = []
        known: list[bool] = []  # the masks of the anomalous test images
        for number, position in enumerate(draw.permutation(len(kinds))):
            split, gt_label, defect, masked = kinds[position]
            name = f"{split}/{defect}/{number:03d}"
            values = (name, split, gt_label, defect, "", f"{name}.png", "0" * 64)
            self.rows.append(dict(zip(INDEX_COLUMNS, values, strict=True)))
            if (split, gt_label) == ("test", 1):
                known.append(masked)
        anomalous = np.array([row["gt_label"] for row in self.rows])[:, None, None, None]
        count = len(self.rows)
        self.images = draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        self.masks = np.zeros((len(known), SIDE, SIDE), dtype=np.uint8)
        self.masks[:, 4:12, 8:20] = 1
        self.masks[~np.array(known, bool)] = UNKNOWN
        # No standard normals: of those, a flow that is the identity has nothing to learn.
        features = draw.normal(1, 2, (count, GRID, GRID, CHANNELS)) + 4 * anomalous
        self.features = features.astype(np.float16)  # of stage 2, or as their side says
        self.other_features: dict[int, np.ndarray] = {}  # of further stages, none at first
        self.save()

    def add_stage(self, stage: int, channels: int) -> np.ndarray:
        """Make up the features of a further stage; they are not saved yet."""
        draw, side = np.random.default_rng(stage), SIDE // 2 ** (stage + 1)
        anomalous = np.array([row["gt_label"] for row in self.rows])[:, None, None, None]
        features = draw.normal(2, 3, (len(self.rows), side, side, channels)) + 4 * anomalous
        self.other_features[stage] = features.astype(np.float16)
        return self.other_features[stage]

    @property
    def cache(self) -> np.ndarray:
        """The features of all stages, as the cache holds them."""
        stage = (self.images.shape[1] // self.features.shape[1]).bit_length() - 2
        every = {stage: self.features, **self.other_features}
        return cache_of({stage: every[stage] for stage in sorted(every)})

    def save(self) -> None:
        """Write the arrays and the index as they are now."""
        np.save(self.folder / "images.npy", self.images)
        np.save(self.folder / "masks.npy", self.masks)
        np.save(self.folder / "features.npy", self.cache)
        with (self.folder / "index.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, INDEX_COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)

    @property
    def prepared(self) -> Prepared:
        """The arrays and the index, from their files."""
        return open_prepared(*self.paths()[:3])

    def mask(self, number: int) -> np.ndarray | None:
        """Return the mask of the row `number`, None where none is known."""
        kinds = [(row["split"], row["gt_label"]) for row in self.rows]
        if kinds[number][1] == 0:
            return np.zeros((SIDE, SIDE), np.uint8)
        if kinds[number] != ("test", 1):
            return None
        mask = self.masks[kinds[:number].count(("test", 1))]
        return None if mask[0, 0] == UNKNOWN else mask

    def paths(self) -> list[Path]:
        """Return images, index, masks, features and weights; there are no weights."""
        names = ("images.npy", "index.csv", "masks.npy", "features.npy", "none")
        return [self.folder / name for name in names]


def fit_tiny(
    paths: list[Path], out: Path, seed: int = 0, method: str = "aeflow", **changes: dict[str, Any]
) -> Path:
    """Fit a method to `TinyStudy.paths`; `changes` are to keys of SETTINGS.

    Returns:
        `out`: a folder with model.safetensors, history.csv and their receipt.
    """
    from scripts.train_model import train_model

    asked = FitAsked(method=method, settings=tiny_settings(**changes), seed=seed)
    model, history = out / "model.safetensors", out / "history.csv"
    read = [*paths[:2], extracted(paths[3], asked), *paths[4:]]  # no masks
    facts = train_model(asked, *read, out / "state.safetensors", model, history)
    receipt = {"made": {path: sha256_file(path) for path in (model, history)}}
    receipt["origin"] = {paths[1]: sha256_file(paths[1])}
    write_receipt(out / "trained.json", settings=asked.as_json(), facts=facts, **receipt)
    return out


def score_tiny(
    paths: list[Path], out: Path, method: str = "aeflow", **changes: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score with what `fit_tiny` left in `out`; return the table and the facts."""
    from scripts.score_images import score_images

    asked = score_asked(method, **changes)
    if method == "gradient":
        given: list[Path | None] = [None] * 4
    else:
        fitted = [out / "model.safetensors", out / "trained.json"]
        given = [extracted(paths[3], asked), *paths[4:], *fitted]
    facts = score_images(asked, *paths[:3], *given, out / "scores.csv", out / "gallery.npz")
    return pd.read_csv(out / "scores.csv", keep_default_na=False), facts


def extracted(features: Path, asked: FitAsked | ScoreAsked) -> Path:
    """Return a cache of the stages that are asked for, of `features`, which has them or is empty.

    An extraction makes one for whoever reads the same stages.
    """
    cache = np.load(features)
    stages = [str(stage) for stage in asked.settings.stages_of(Method(asked.method))]
    if not len(cache) or list(cache.dtype.names) == stages:
        return features
    own = features.with_name(f"features-{'-'.join(stages)}.npy")
    asked_for = cache_of({int(stage): cache[stage] for stage in stages})
    # A state of a training knows the file by its time: one that is as it was is not written.
    if not own.exists() or not np.array_equal(np.load(own), asked_for):
        np.save(own, asked_for)
    return own


def score_asked(method: str = "aeflow", **changes: dict[str, Any]) -> ScoreAsked:
    """Return what `score_tiny` asks for: every map, and two shares of positions."""
    settings, maps = tiny_settings(**changes), list(AnomalyMap)
    shares = {"top_shares": SHARES, "maps": maps}
    return ScoreAsked(method=method, settings=settings, fpr_limit=0.3, **shares)


def tiny_model(**changes: dict[str, Any]) -> "AEFlow":
    """Return the model of the tiny study, of one stage and with a decoder of pixels."""
    from aeflow.encoder.features import Shape
    from aeflow.models.aeflow import AEFlow

    settings, shape = tiny_settings(**changes), Shape(CHANNELS, GRID, SIDE // GRID)
    return AEFlow(
        [shape],
        flow=settings.flow,
        gaussian=settings.gaussian,
        maps=settings.maps,
        decoder=settings.decoder,
    )


def tiny_settings(**changes: dict[str, Any]) -> FitSettings:
    """Return SETTINGS with some keys changed."""
    sections = {**SETTINGS, **{name: {} for name in changes if name not in SETTINGS}}
    merged = {name: {**keys, **changes.get(name, {})} for name, keys in sections.items()}
    return FitSettings.model_validate(merged)
