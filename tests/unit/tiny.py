"""A study small enough for unit tests: images of 32 x 32, made-up features, no encoder."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.core.files import sha256_file
from aeflow.core.types import INDEX_COLUMNS
from aeflow.study.settings import FitSettings

SIDE, GRID, CHANNELS = 32, 4, 6
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
    """Prepared arrays and cached features in a folder, their rows in no particular order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        kinds = [(*group[:3], group[4]) for group in GROUPS for _ in range(group[3])]
        self.rows: list[dict[str, Any]] = []
        for number, position in enumerate(draw.permutation(len(kinds))):
            split, gt_label, defect, masked = kinds[position]
            mask_row = sum(row["mask_row"] != "" for row in self.rows) if masked else ""
            name = f"{split}/{defect}/{number:03d}"
            values = (name, split, gt_label, defect, "", f"{name}.png", "0" * 64, mask_row)
            self.rows.append(dict(zip(INDEX_COLUMNS, values, strict=True)))
        anomalous = np.array([row["gt_label"] for row in self.rows])[:, None, None, None]
        count = len(self.rows)
        self.images = draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        self.masks = np.zeros((3, SIDE, SIDE), dtype=np.uint8)
        self.masks[:, 4:12, 8:20] = 1
        features = draw.normal(size=(count, GRID, GRID, CHANNELS)) + 2 * anomalous
        self.features = features.astype(np.float16)
        self.save()

    def save(self) -> None:
        """Write the arrays, the index and the manifest as they are now."""
        np.save(self.folder / "images.npy", self.images)
        np.save(self.folder / "masks.npy", self.masks)
        np.save(self.folder / "features.npy", self.features)
        with (self.folder / "index.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, INDEX_COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
        manifest = {
            f"{name}_sha256": sha256_file(self.folder / f"{name}.npy")
            for name in ("features", "images")
        }
        manifest["weights_sha256"] = "0" * 64
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def inputs(self) -> list[str]:
        """Return the arguments that name the inputs of train_model and score_images."""
        names = {name: f"{name}.npy" for name in ("images", "masks", "features")}
        names |= {"index": "index.csv", "features-manifest": "manifest.json", "weights": "none"}
        return [part for name, file in names.items() for part in self._option(name, file)]

    def _option(self, name: str, file: str) -> tuple[str, str]:
        return f"--{name}", str(self.folder / file)

    def train_arguments(
        self, out: Path, seed: int = 0, method: str = "aeflow", **changes: dict[str, Any]
    ) -> list[str]:
        """Return the arguments of train_model; `changes` are to keys of SETTINGS."""
        outputs = {
            "state": "state.safetensors",
            "model": "model.safetensors",
            "summary": "summary.json",
            "history": "history.csv",
        }
        settings = json.dumps(tiny_settings(**changes).model_dump(mode="json"))
        chosen = ["--method", method, "--settings", settings, "--seed", str(seed)]
        written = [
            part for name, file in outputs.items() for part in (f"--{name}", str(out / file))
        ]
        return [*chosen, *self.inputs(), *written]


def tiny_settings(**changes: dict[str, Any]) -> FitSettings:
    """Return SETTINGS with some keys changed."""
    sections = {**SETTINGS, **{name: {} for name in changes if name not in SETTINGS}}
    merged = {name: {**keys, **changes.get(name, {})} for name, keys in sections.items()}
    return FitSettings.model_validate(merged)
