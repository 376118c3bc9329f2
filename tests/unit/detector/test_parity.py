"""A packed detector says of an image's file what the study says of the image.

Whole studies by the real code, from files to scores: every method, on every kind of image and
geometry. What differs then differs by the order of sums in batches of another size alone.
"""

import importlib
import importlib.util
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aeflow.core.receipts import read_receipt
from aeflow.data.prepared import open_prepared
from aeflow.detector.detector import Detector
from aeflow.detector.pack import pack
from aeflow.detector.predictions import NAME, predict
from aeflow.results import Results, load
from aeflow.scoring.pixel_metrics import PixelMetrics
from aeflow.study import job
from aeflow.study.cells import STEPS, Cell, jobs_of, path, study_cells, table_of
from aeflow.study.study import Study
from tests.unit.data.dicom_files import dicom

pytestmark = pytest.mark.usefixtures("read_here")
ROOT = Path(__file__).parents[3]
Levels = np.ndarray  # (h, w) of numbers in [0, 1]
PEERS = ("padim", "patchcore", "fastflow", "ganomaly")
OURS: dict[str, dict[str, Any]] = {
    "aeflow": {},
    "flow": {"features": {"normalise": "position"}},
    "autoencoder": {},
    "gaussian": {},
}
# Of a method, what else it may rest on: several stages, features as target, an encoder of its own.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "stages": (
        "gaussian",
        {"encoder": {"stages": [2, 3, 4]}, "score": {"flow": "local_energy_top", "map": "energy"}},
    ),
    "residual": (
        "aeflow",
        {
            "decoder": {"target": "features"},
            "score": {"reconstruction": "residual_top", "map": "residual"},
        },
    ),
    "tuned": ("aeflow", {"encoder": {"finetune": True}, "flow": {"standardise": "none"}}),
    "scaled": ("aeflow", {"score": {"scaling": "standardised"}}),
    "corrected": ("gaussian", {"score": {"correct": "complexity"}}),
}


def png(levels: Levels, number: int) -> bytes:
    file = BytesIO()
    Image.fromarray((levels * 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def photograph(levels: Levels, number: int) -> bytes:
    """Return a JPEG in colour that says how it is to be turned."""
    file = BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    large = np.kron(levels, np.ones((6, 6)))  # so that the decoder may shrink it
    pixels = np.stack([large, large**2, 1 - large], axis=-1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(file, "JPEG", exif=turned)
    return file.getvalue()


def deep(levels: Levels, number: int) -> bytes:
    """Return 12 bits in a file of 16, a PNG or a TIFF."""
    file = BytesIO()
    kind = "TIFF" if number % 2 else "PNG"
    Image.fromarray((levels * 4095).astype(np.uint16)).save(file, kind)
    return file.getvalue()


def radiograph(levels: Levels, number: int) -> bytes:
    values = (levels * 4095).astype(np.uint16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 4000, "WindowWidth": 6000}
    return dicom(values, bits=12, PhotometricInterpretation="MONOCHROME1", **tags)


class Kind(NamedTuple):
    """A folder of images, and how they are prepared."""

    write: Callable[[Levels, int], bytes]
    data: dict[str, Any]
    masks: bool = False
    max_cache_gib: float = 20.0


KINDS = {
    "gray": Kind(png, {"center_crop": 48}, masks=True),
    "colour": Kind(photograph, {"resize": "crop", "grayscale": True}, max_cache_gib=0.0),
    "deep": Kind(deep, {"intensity": "percentiles", "resize": "pad"}),
    "dicom": Kind(radiograph, {"intensity": "window", "resize": "pad", "center_crop": 56}),
}


def variants(names: list[str]) -> list[dict[str, Any]]:
    """Return the gradient, which others are corrected by, some variants, and their fusion."""
    every = {**{name: (name, keys) for name, keys in OURS.items()}, **MORE}
    every |= {name: (name, {}) for name in PEERS}
    chosen = [
        {"name": name, "method": every[name][0], "settings": every[name][1]} for name in names
    ]
    gradient = {"name": "gradient", "method": "gradient"}
    fusion = {"name": "all", "method": "fusion", "members": [*names, "gradient"]}
    return [gradient, *chosen, fusion]


@pytest.fixture
def finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_as_it_was: None
) -> Callable[[str, list[str]], Results]:
    """Return a function that runs a study of one kind of images, and reads it."""

    def run(kind: str, names: list[str]) -> Results:
        write_images(Path("images"), KINDS[kind])
        study = Study.model_validate(
            {
                "study": "parity",
                "seeds": [0],
                "datasets": [{"name": "own", "card": "folder_mvtec", "source": "images"}],
                "data": {"image_size": 64, "val_fraction": 0.25} | KINDS[kind].data,
                "max_cache_gib": KINDS[kind].max_cache_gib,
                "encoder": {"name": "efficientnet_lite0", "stages": 3},
                "flow": {"steps": 2, "standardise": "channel"},
                "training": {"epochs": 1, "batch_size": 8, "threads": 1, "device": "cpu"},
                "evaluation": {"bootstrap_replicates": 0},
                "variants": variants(names),
                "ablations": [],
            }
        )
        file = path(study, "study", {})
        file.parent.mkdir(parents=True)
        file.write_text(study.model_dump_json())
        for step, given in jobs_of(study):
            if not path(study, STEPS[step].receipt, given).exists():
                function = getattr(importlib.import_module(f"scripts.{step}"), step)
                words = {name: str(value) for name, value in given.items()}
                job._run(function, {"study": str(file), **words})
        return load("results/parity")

    for name in ("config", "scripts", "aeflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return run


def write_images(folder: Path, kind: Kind) -> None:
    """Write 24 normals to train, 5 to test, and 4 images with a dent."""
    draw = np.random.default_rng(0)
    number = 0
    for part, count in {"train/good": 24, "test/good": 5, "test/dent": 4}.items():
        for n in range(count):
            levels = np.linspace(0.2, 0.6, 72) + draw.normal(0, 0.05, (56, 72))
            if part == "test/dent":
                levels[20:32, 30:44] += 0.3
            place = folder / part / f"{n}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(kind.write(levels.clip(0, 1), number))
            number += 1
            if kind.masks and part == "test/dent":
                mask = np.zeros((56, 72))
                mask[20:32, 30:44] = 1
                drawn = folder / f"ground_truth/dent/{n}_mask.png"
                drawn.parent.mkdir(parents=True, exist_ok=True)
                drawn.write_bytes(png(mask, 0))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gray", [*OURS, *MORE]),
        ("colour", ["aeflow"]),
        ("deep", ["aeflow"]),
        ("dicom", ["aeflow"]),
        pytest.param(
            *("gray", list(PEERS)),
            marks=pytest.mark.skipif(
                importlib.util.find_spec("anomalib") is None,
                reason="anomalib is not installed: run `make peers`",
            ),
        ),
    ],
)
def test_it_gives_the_scores_verdicts_and_maps_of_the_study(
    finish: Callable[[str, list[str]], Results], tmp_path: Path, kind: str, names: list[str]
) -> None:
    results = finish(kind, names)
    images = tmp_path / "images/test"
    for cell in study_cells(results.study):
        packed, out = tmp_path / f"{cell.variant}.safetensors", tmp_path / "out" / cell.variant
        table = table_of(results.study, cell)
        pack(results.study, cell, packed)
        detector = Detector.load(packed)
        assert predict(detector, packed, [str(images)], out, "npy", pictures=False).unreadable == 0
        found = pd.read_csv(out / NAME, keep_default_na=False)
        found.index = [name.partition("/images/")[2] for name in found["path"]]
        scores = results.scores(cell.dataset, cell.variant)
        wanted = scores[scores["split"] == "test"].set_index("image_id").loc[found.index]
        for name in ("pred_score", *(set(wanted.columns) & set(detector.components))):
            assert_close(found[name], wanted[name])
        alone = detector.predictions([images / "dent/0"])  # not in a batch
        assert_close(alone["pred_score"], wanted["pred_score"][["test/dent/0"]], wanted)
        judged = read_receipt(path(results.study, "metrics", table)).facts["variants"]
        limit = judged[cell.variant]["threshold"]
        assert (found["pred_label"] == (wanted["pred_score"] >= limit)).all()
        assert set(found["warnings"]) <= {"", "a score far from all that validation knows"}
        if KINDS[kind].masks and detector.facts.judged.map:
            assert_same_maps(results.study, table, str(detector.facts.judged.map), out, found)


def assert_close(
    found: "pd.Series[float]", wanted: "pd.Series[float]", beside: pd.DataFrame | None = None
) -> None:
    """Features in half precision and 7 digits of a table: 1.4e-5 was the most, of FastFlow."""
    among = wanted if beside is None else beside["pred_score"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.ptp(among))


def assert_same_maps(study: Study, cell: Cell, name: str, out: Path, found: pd.DataFrame) -> None:
    """Judge the maps that were written by the study's masks, as the study judged its own."""
    prepared = open_prepared(*(path(study, n, cell) for n in ("images", "index", "masks")))
    measured = PixelMetrics()
    for number, image_id in enumerate(found.index, start=1):
        (row,) = np.flatnonzero(prepared.index["image_id"] == image_id)
        (file,) = (out / "maps").glob(f"{number:05d}_*.npy")
        mask = prepared.mask(row)
        assert mask is not None
        measured.update(np.load(file, allow_pickle=False), mask)
    wanted = read_receipt(path(study, "scored", cell)).facts["pixel"][name]
    assert measured.compute(study.evaluation.fpr_limit) == pytest.approx(wanted, abs=1e-4)
