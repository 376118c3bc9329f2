"""Odd images, a full disk and folders that cannot be written, as a user meets them."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.workflow.conftest import Repository, copy_repository

SIDE = 32
ODD = "toy/train/good/odd_"
CARD = {
    "name": "toy",
    "title": "Toy",
    "licence": "none",
    "citation": "none",
    "archive": {"name": "toy.zip"},
    "layout": {
        "image": r"toy/(?P<split>train|test)/(?P<defect>good|bad)/(?P<stem>[^/]+)\.\w+",
        "normal": "good",
    },
    "counts": {"all": {"train_normal": 20, "test_normal": 2, "test_anomalous": 2}},
}
OVERLAY = {
    "study": "toy",
    "datasets": [{"name": "toy", "source": "user/toy_images"}],
    "data": {"image_size": SIDE, "val_fraction": 0.2},
    "variants": [{"name": "gradient", "method": "gradient"}],
    "seeds": [0],
}
PREPARED = "data/manifests/prepared/toy/all.json"
SCORES = "results/toy/scores/toy/all/gradient/seed0.csv"
# File: what is seen of it (RGB of a plain image), or why it cannot be used.
USABLE = {
    "cmyk.jpg": (0, 255, 255),
    "palette.png": (10, 200, 30),
    "alpha.png": (100, 50, 0),
    "deep.png": (120, 120, 120),
}
UNUSABLE = {
    "giant.png": "12000 x 9000, more than 100,000,000 pixels",
    "one.png": "1 x 1 pixels, a side is below 8",
    "cut.jpg": "cannot be decoded",
    "empty.png": "the file is empty",
}


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def giant(width: int, height: int) -> bytes:
    """Return a PNG whose header promises more than is there."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + chunk.replace(b"IHDR", b"IDAT")


def odd_images() -> dict[str, bytes]:
    size = (40, 48)
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    return {
        "cmyk.jpg": encoded(Image.new("CMYK", size, (255, 0, 0, 0)), "JPEG"),
        "palette.png": encoded(palette, "PNG"),
        "alpha.png": encoded(Image.new("RGBA", size, (200, 100, 0, 128)), "PNG"),
        "deep.png": encoded(Image.fromarray(np.full(size, 257 * 120, np.uint16)), "PNG"),
        "giant.png": giant(12_000, 9_000),
        "one.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "cut.jpg": encoded(noise(99), "JPEG")[:1000],
        "empty.png": b"",
    }


@pytest.fixture
def toy(tmp_path: Path) -> Repository:
    """A copy of the repository with a dataset of the user's own: a folder and a card."""
    folder = copy_repository(tmp_path)
    (folder / "config/datasets/toy.yaml").write_text(yaml.safe_dump(CARD))
    (folder / "toy.yaml").write_text(yaml.safe_dump(OVERLAY))
    files = {f"train/good/plain_{n}.png": encoded(noise(n), "PNG") for n in range(12)}
    files |= {f"test/good/{n}.png": encoded(noise(20 + n), "PNG") for n in range(2)}
    files |= {f"test/bad/{n}.png": encoded(noise(30 + n), "PNG") for n in range(2)}
    files |= {f"train/good/odd_{name}": content for name, content in odd_images().items()}
    for name, content in files.items():
        path = folder / "user/toy_images/toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Repository(folder)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def sentences(stderr: str, script: str) -> list[str]:
    """Return what a script said on stderr."""
    return [line for line in stderr.splitlines() if line.startswith(f"{script}.py:")]


def test_odd_images_are_used_or_listed(toy: Repository) -> None:
    assert {*USABLE, *UNUSABLE} == odd_images().keys()
    refused = toy.snakemake(PREPARED, overlay="toy.yaml", check=False)
    assert refused.returncode == 1
    (sentence,) = sentences(refused.stderr, "prepare_images")
    assert "toy/all: 4 of 24 images are unusable" in sentence
    assert "allow more with data.max_unusable_share (now 0.0)" in sentence
    for name, reason in UNUSABLE.items():
        assert f"{ODD}{name}: {reason}" in sentence
    assert not any(name in sentence for name in USABLE)
    assert files_in(toy.folder / "data/prepared") == []
    assert not (toy.folder / PREPARED).exists()

    toy.snakemake(PREPARED, "--config", "data={max_unusable_share: 0.2}", overlay="toy.yaml")
    manifest = json.loads((toy.folder / PREPARED).read_text())
    listed = {entry["source"].removeprefix(ODD): entry["reason"] for entry in manifest["unusable"]}
    log = (toy.folder / "results/logs/prepare_images/toy/all.log").read_text()
    assert listed.keys() == UNUSABLE.keys()
    for name, reason in UNUSABLE.items():
        assert listed[name].startswith(reason)
        assert f"{ODD}{name}: {reason}" in log
    assert sum(manifest["counts"].values()) == 20
    prepared = toy.folder / "data/prepared/toy/all"
    assert files_in(prepared) == ["images.npy", "index.csv", "masks.npy"]
    images = np.load(prepared / "images.npy", allow_pickle=False)
    sources = list(pd.read_csv(prepared / "index.csv")["source"])
    assert images.shape == (20, SIDE, SIDE, 3)
    for name, colour in USABLE.items():
        found = images[sources.index(ODD + name)].reshape(-1, 3)
        np.testing.assert_allclose(found, np.tile(colour, (SIDE**2, 1)), atol=3, err_msg=name)
