"""The dataset `toy`: its card, small images and archives of them."""

import hashlib
import io
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image

from aeflow.study.asked import PrepareAsked
from aeflow.study.cards import DatasetCard, SourceFile
from aeflow.study.settings import DataSettings

MEMBERS = {"toy/train/good/a.png": b"a" * 5000, "toy/test/good/b.png": b"b" * 5000}


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip with the given members, in their order."""
    with ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).squeeze()


def make_card(
    *files: SourceFile, counts: dict[str, Any] | None = None, **facts: Any
) -> DatasetCard:
    """Return the card `toy`; `layout` in `facts` adds to toy/<split>/<defect>/<stem>.png."""
    image = r"toy/(?P<split>train|test)/(?P<defect>[^/]+)/(?P<stem>[^/]+)\.png"
    return DatasetCard.model_validate(
        {
            **{"name": "toy", "title": "Toy", "licence": "none", "citation": "none"},
            "files": [file.model_dump() for file in files],
            "counts": counts
            or {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}},
            **facts,
            "layout": {"image": image, "normal": "good"} | facts.get("layout", {}),
        }
    )


def asked_of(card: DatasetCard, settings: DataSettings, category: str = "all") -> PrepareAsked:
    """Return what the preparation of a card's images is asked for."""
    return PrepareAsked(dataset=card.name, category=category, data=settings, card=card)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(destination: Path) -> list[str]:
    """Return what lies in the folder, but the note that tells a second process of the first."""
    names = {path.name for path in destination.parent.glob("*")}
    return sorted(names - {f".{destination.name}-files.json"})
