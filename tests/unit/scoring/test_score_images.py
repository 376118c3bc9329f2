"""Scoring: order, independence of batches, whose masks count, and the gallery of any method."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from aeflow.core.types import AnomalyMap, Method, Split
from aeflow.encoder.features import FeatureSource
from aeflow.methods.aeflow import Detector
from aeflow.models.losses import flow_nll
from aeflow.scoring import score_images as scoring
from aeflow.scoring.gallery import read_gallery, read_pictures, write_gallery
from aeflow.scoring.score_images import Scored, score_images
from tests.unit.tiny import SHARES, TinyStudy, fit_tiny, score_tiny, tiny_settings

CPU = torch.device("cpu")
PLAIN = ["density", "latent_energy", "nll", "local_density_mean", "local_density_max"]
PLAIN += ["local_nll_max"]
TOPS = ["local_energy_top_0.03", "local_energy_top_0.25", "local_nll_top_0.03"]
TOPS += ["local_nll_top_0.25"]
COLUMNS = ["image_id", "split", "gt_label", "defect", *PLAIN, *TOPS, "ssim", "mse", "centred_mse"]


def detector_on(tiny: TinyStudy) -> Detector:
    tiny.save()
    torch.manual_seed(0)
    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    settings = tiny_settings(flow={"steps": 3, "subnet": "resnet"})
    detector = Detector(source, settings, Method.AEFLOW)
    detector.module.eval()
    detector.top_shares, detector.maps = SHARES, list(AnomalyMap)
    return detector


def score(tiny: TinyStudy) -> Scored:
    detector = detector_on(tiny)
    return score_images(tiny.prepared, detector, 0.3)


def test_a_row_per_validation_and_test_image_with_its_own_scores(tiny: TinyStudy) -> None:
    detector = detector_on(tiny)
    before = {name: tensor.clone() for name, tensor in detector.module.state_dict().items()}
    table = score_images(tiny.prepared, detector, 0.3).table
    assert all(torch.equal(before[name], t) for name, t in detector.module.state_dict().items())
    assert list(table.columns) == COLUMNS
    kept = [(number, row) for number, row in enumerate(tiny.rows) if row["split"] != "train"]
    for column in COLUMNS[:4]:
        assert list(table[column]) == [row[column] for _, row in kept]
    assert "NA" in set(table["defect"])
    assert np.isfinite(table[COLUMNS[4:]].to_numpy(np.float64)).all()
    numbers = [number for number, _ in kept]
    z = torch.from_numpy(tiny.features[numbers]).permute(0, 3, 1, 2).float()
    x = torch.from_numpy(tiny.images[numbers]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        out = detector.module([z])
        nll, mse = (
            flow_nll(out.z[0], out.log_det[0]),
            F.mse_loss(out.reconstruction, x, reduction="none"),
        )
    np.testing.assert_allclose(table["nll"], nll, rtol=1e-5)
    np.testing.assert_allclose(table["mse"], mse.mean((1, 2, 3)), rtol=1e-5)
    energy = np.sort((out.z[0] ** 2).mean(1).flatten(1) / 2)  # of 16 positions
    np.testing.assert_allclose(table["local_energy_top_0.03"], energy[:, -1], rtol=1e-5)
    np.testing.assert_allclose(table["local_energy_top_0.25"], energy[:, -4:].mean(1), rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_score_does_not_depend_on_the_batch(
    tiny: TinyStudy, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    whole, pixel, _ = score(tiny)
    monkeypatch.setattr(scoring, "BATCH", batch)
    parts, pixel_parts, _ = score(tiny)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-5, atol=1e-8)
    for name, metrics in pixel.items():
        assert pixel_parts[name] == pytest.approx(metrics, rel=1e-5)


def test_pixel_metrics_are_those_of_test_images_whose_mask_is_known(tiny: TinyStudy) -> None:
    """Three anomalous images have a mask; normal test images have an empty one."""
    detector = detector_on(tiny)
    pixel = score_images(tiny.prepared, detector, 0.3).pixel
    rows, truth = [], []
    for number, row in enumerate(tiny.rows):
        if row["split"] == "test" and (mask := tiny.mask(number)) is not None:
            rows.append(number)
            truth.append(mask)
    assert len(rows) == 6
    x = torch.from_numpy(tiny.images[rows]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        out = detector.module([torch.from_numpy(tiny.features[rows]).permute(0, 3, 1, 2).float()])
    z, log_det = out.z[0], out.log_det[0]
    energy = 0.5 * (z**2).mean(1)
    coarse = {"flow": -torch.exp(-energy), "energy": energy, "nll": energy - log_det / 6}
    maps = {
        name: F.interpolate(each[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
        for name, each in coarse.items()
    }
    maps["difference"] = (x - out.reconstruction).abs().mean(1)
    assert pixel.keys() == maps.keys()
    for name, values in maps.items():
        expected = roc_auc_score(np.stack(truth).ravel(), values.ravel())
        assert pixel[name]["pixel_auroc"] == pytest.approx(expected, abs=1e-5)
        assert pixel[name]["aupro"] is not None


def test_other_images_never_enter_the_pixel_metrics(tiny: TinyStudy) -> None:
    before = score(tiny).pixel
    draw = np.random.default_rng(4)
    for number, row in enumerate(tiny.rows):
        if row["split"] != "test" or row["defect"] == "NA":
            tiny.features[number] = draw.normal(size=tiny.features[number].shape) * 9
            tiny.images[number] = 255 - tiny.images[number]
    assert score(tiny).pixel == before
    tiny.masks = tiny.masks[:0]
    assert score(tiny).pixel == {}


@pytest.mark.parametrize("side", [32, 256])
def test_the_gallery_shows_what_was_scored(tiny: TinyStudy, side: int, tmp_path: Path) -> None:
    """Pictures larger than 128 pixels are averaged down."""
    tiny.images = tiny.images.repeat(side // 32, 1).repeat(side // 32, 2)
    tiny.masks = np.roll(tiny.masks.repeat(side // 32, 1).repeat(side // 32, 2), 1, axis=2)
    tiny.features = tiny.features.repeat(side // 32, 1).repeat(side // 32, 2)
    detector, prepared = detector_on(tiny), tiny.prepared
    scored = score_images(prepared, detector, 0.3)
    write_gallery(tmp_path / "g.npz", scored.gallery)
    gallery = read_pictures(tmp_path / "g.npz")
    rows = prepared.rows(Split.TEST)
    assert list(gallery["image_id"]) == list(prepared.index["image_id"].iloc[rows])
    shown, step = min(side, 128), max(side // 128, 1)
    with torch.no_grad():
        images = detector._source.images(rows)
        z = detector._source.features(rows)[2]
        out = detector.module([z])

    def small(values: torch.Tensor) -> np.ndarray:
        return F.avg_pool2d(values, step).permute(0, 2, 3, 1).numpy()

    difference = (images - out.reconstruction).abs().mean(1, keepdim=True)
    for name, expected in (("image", images), ("reconstruction", out.reconstruction)):
        assert gallery[name].shape == (7, shown, shown, 3)
        assert np.abs(gallery[name] / 255 - small(expected)).mean() < 0.05  # JPEG
    assert np.abs(gallery["difference"] - small(difference)[..., 0]).mean() < 0.03
    for name in ("flow_map", "energy_map", "nll_map"):
        assert gallery[name].shape == (7, shown, shown)
    assert (gallery["nll_map"] != gallery["energy_map"]).any()
    # Of validation normals: the median of their maps, and what 95 % of them are nowhere above.
    normals = prepared.validation_normals
    with torch.no_grad():
        z = detector.module([detector._source.features(normals)[2]]).z[0]
    energy = (z**2).mean(1).numpy() / 2
    expected_scale = np.median(np.median(energy, (1, 2))), np.quantile(energy.max((1, 2)), 0.95)
    scale = read_gallery(tmp_path / "g.npz")["energy_scale"]
    assert scale == pytest.approx(expected_scale, rel=1e-4)
    for row, mask, known in zip(rows, gallery["mask"], gallery["has_mask"], strict=True):
        whole = prepared.mask(int(row))
        assert known == (whole is not None)
        if known:  # half a pixel is enough
            share = small(torch.from_numpy(whole).float()[None, None])[0, ..., 0]
            assert np.array_equal(mask, share >= 0.5)


def test_every_file_has_the_same_bytes_under_any_hash_seed(
    tiny: TinyStudy, torch_as_it_was: None
) -> None:
    code = """
import sys
from pathlib import Path
from tests.unit.tiny import fit_tiny, score_tiny
out, *paths = map(Path, sys.argv[1:])
fit_tiny(paths, out)
score_tiny(paths, out)
"""
    own = os.environ.get("PYTHONHASHSEED", "random")
    here, other = tiny.folder.parent / "here", tiny.folder.parent / "other"
    fit_tiny(tiny.paths(), here)
    score_tiny(tiny.paths(), here)
    environment = os.environ | {"PYTHONHASHSEED": "1" if own == "0" else "0"}
    command = [sys.executable, "-c", code, str(other), *map(str, tiny.paths())]
    subprocess.run(command, env=environment, check=True)
    for name in ("model.safetensors", "history.csv", "scores.csv", "gallery.npz"):
        assert (here / name).read_bytes() == (other / name).read_bytes(), name
