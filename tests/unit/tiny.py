"""A study small enough for unit tests: images of 32 x 32, made-up features, no encoder."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.files import sha256_file
from aeflow.core.receipts import write_receipt
from aeflow.core.types import INDEX_COLUMNS
from aeflow.data.prepared import UNKNOWN, Prepared, open_prepared
from aeflow.study.asked import FitAsked, ScoreAsked
from aeflow.study.settings import FitSettings

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
SETTINGS: dict[str, Any] = {
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
        features = draw.normal(size=(count, GRID, GRID, CHANNELS)) + 2 * anomalous
        self.features = features.astype(np.float16)
        self.save()

    def save(self) -> None:
        """Write the arrays and the index as they are now."""
        np.save(self.folder / "images.npy", self.images)
        np.save(self.folder / "masks.npy", self.masks)
        np.save(self.folder / "features.npy", self.features)
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
    read = [*paths[:2], *paths[3:]]  # no masks
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

    asked = ScoreAsked(method=method, settings=tiny_settings(**changes), fpr_limit=0.3)
    given = [*paths[3:], out / "model.safetensors", out / "trained.json"]
    given = [None] * 4 if method == "gradient" else given
    facts = score_images(asked, *paths[:3], *given, out / "scores.csv", out / "gallery.npz")
    return pd.read_csv(out / "scores.csv", keep_default_na=False), facts


def tiny_settings(**changes: dict[str, Any]) -> FitSettings:
    """Return SETTINGS with some keys changed."""
    sections = {**SETTINGS, **{name: {} for name in changes if name not in SETTINGS}}
    merged = {name: {**keys, **changes.get(name, {})} for name, keys in sections.items()}
    return FitSettings.model_validate(merged)
