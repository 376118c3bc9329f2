"""Preparation: from an archive of JPEG files to one array of 256x256 images."""

from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
from PIL import Image

from aeflow.data.prepare import prepare_images
from aeflow.study.asked import PrepareAsked
from aeflow.study.cards import DatasetCard
from aeflow.study.settings import DataSettings
from benchmarks.measure import Action, Measurement, compare, peak_mib, threads

FILE_SIDE = 224
SIDE = DataSettings().image_size


def measure(quick: bool) -> list[Measurement]:
    """Measure speed and memory of `prepare_images` against a loop in one process."""
    images, repeats, many = (20, 1, 40) if quick else (4000, 3, 30_000)
    with TemporaryDirectory() as folder:
        large = Path(folder) / "large.zip"
        write_archive(large, many)
        most = peak_mib(prepare(large, many))
        large.unlink()
        archive = Path(folder) / "toy.zip"
        write_archive(archive, images)
        ours, plain = partial(prepare, archive, images), partial(decode_in_a_loop, archive)
        return [
            compare("preparation", ours, plain, repeats=repeats, images=images),
            compare("preparation, peak memory", ours, plain, repeats=1, quantity=peak_mib),
            Measurement(f"preparation of {many:,} images, peak memory", "MiB", most),
        ]


def write_archive(path: Path, images: int) -> None:
    """Write JPEG files, 224x224, RGB, about as smooth as photographs."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((1000, 1000), Image.Resampling.BICUBIC)
    with ZipFile(path, "w") as archive:
        for number in range(images):
            left, top = (int(place) for place in generator.integers(0, 1000 - FILE_SIDE, 2))
            pixels = np.asarray(scene.crop((left, top, left + FILE_SIDE, top + FILE_SIDE)))
            noise = generator.integers(0, 20, pixels.shape, dtype=np.uint8)
            file = BytesIO()
            Image.fromarray(pixels // 2 + 50 + noise).save(file, "JPEG", quality=90)
            archive.writestr(f"toy/train/good/{number:05d}.jpg", file.getvalue())


def prepare(archive: Path, images: int) -> Action:
    """Return ours."""
    card = DatasetCard.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "licence": "none",
            "citation": "none",
            "files": [{"name": archive.name}],
            "layout": {
                "image": r"toy/(?P<split>train)/(?P<defect>good)/\d+\.jpg",
                "normal": "good",
            },
            "counts": {"all": {"train_normal": images, "test_normal": 0, "test_anomalous": 0}},
        }
    )
    out = archive.parent / "ours"
    asked = PrepareAsked(dataset="toy", category="all", data=DataSettings(), card=card)
    outputs = (out / "images.npy", out / "index.csv")
    return lambda: prepare_images(archive, asked, *outputs, threads())


def decode_in_a_loop(archive: Path) -> Action:
    """Return the reference: open, resize, stack, save."""

    def action() -> None:
        with ZipFile(archive) as opened:
            pixels = [
                np.asarray(
                    Image.open(BytesIO(opened.read(name)))
                    .convert("RGB")
                    .resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                )
                for name in sorted(opened.namelist())
            ]
        np.save(archive.parent / "plain.npy", np.stack(pixels))

    return action
