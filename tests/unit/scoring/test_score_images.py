"""Scoring: columns, order, independence of batches, and whose masks count."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from aeflow.core.types import FlowScore, ReconstructionScore
from aeflow.data.prepared import Prepared, open_prepared
from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow
from aeflow.models.losses import flow_nll
from aeflow.scoring import score_images as inference
from aeflow.scoring.score_images import run_model, score_images
from aeflow.scoring.score_tables import read_scores
from scripts.score_images import main as score_images_script
from tests.unit.tiny import TinyStudy, tiny_settings

COLUMNS = ["image_id", "split", "gt_label", "defect", *FlowScore, *ReconstructionScore]


def opened(tiny: TinyStudy) -> tuple[Prepared, FeatureSource]:
    tiny.save()
    prepared = open_prepared(*(tiny.folder / f for f in ("images.npy", "masks.npy", "index.csv")))
    return prepared, FeatureSource(prepared.images, torch.device("cpu"), cache=tiny.features)


@pytest.fixture
def model() -> AEFlow:
    torch.manual_seed(0)
    settings = tiny_settings(flow={"steps": 3, "subnet": "resnet"})
    return AEFlow(6, 4, 8, settings.flow, settings.decoder)


def test_a_row_per_validation_and_test_image_in_the_order_of_the_index(
    tiny: TinyStudy, model: AEFlow
) -> None:
    table, _ = score_images(*opened(tiny), model, 0.3)
    rows = [row for row in tiny.rows if row["split"] != "train"]
    assert list(table.columns) == COLUMNS
    for column in ("image_id", "split", "gt_label", "defect"):
        assert list(table[column]) == [row[column] for row in rows]
    assert "NA" in set(table["defect"])
    assert (table.dtypes.iloc[4:] == np.float64).all()
    assert np.isfinite(table[COLUMNS[4:]].to_numpy()).all()


def test_a_score_is_that_of_its_own_image(tiny: TinyStudy, model: AEFlow) -> None:
    prepared, source = opened(tiny)
    table, _ = score_images(prepared, source, model, 0.3)
    row = 9
    position = prepared.rows("validation", "test").tolist().index(row)
    z = torch.from_numpy(tiny.features[[row]]).permute(0, 3, 1, 2).float()
    x = torch.from_numpy(tiny.images[[row]]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        out = model.eval()(z)
    found = table.iloc[position]
    assert found["nll"] == pytest.approx(flow_nll(out.z, out.log_det).item(), rel=1e-5)
    assert found["mse"] == pytest.approx(F.mse_loss(out.reconstruction, x).item(), rel=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_score_does_not_depend_on_the_batch(
    tiny: TinyStudy, model: AEFlow, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    model.train()  # a BatchNorm that used the batch's statistics would show
    whole, pixel = score_images(*opened(tiny), model, 0.3)
    monkeypatch.setattr(inference, "BATCH", batch)
    parts, pixel_parts = score_images(*opened(tiny), model, 0.3)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-5, atol=1e-8)
    for name, metrics in pixel.items():
        assert pixel_parts[name] == pytest.approx(metrics, rel=1e-5)


def test_scoring_changes_neither_the_model_nor_its_batchnorms(
    tiny: TinyStudy, model: AEFlow
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    score_images(*opened(tiny), model, 0.3)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_pixel_metrics_are_those_of_test_images_whose_mask_is_known(
    tiny: TinyStudy, model: AEFlow
) -> None:
    """Three anomalous images have a mask; normal test images have an empty one."""
    prepared, source = opened(tiny)
    _, pixel = score_images(prepared, source, model, 0.3)
    values = {"flow": [], "difference": []}
    truth = []
    for number, row in enumerate(tiny.rows):
        if row["split"] != "test" or (row["gt_label"] == 1 and row["mask_row"] == ""):
            continue
        mask = np.zeros((32, 32))
        if row["mask_row"] != "":
            mask = tiny.masks[row["mask_row"]]
        truth.append(mask)
        with torch.no_grad():
            x, out = run_model(source, model, np.array([number]))
        density = -torch.exp(-0.5 * (out.z**2).mean(1, keepdim=True))
        map_ = F.interpolate(density, (32, 32), mode="bilinear", align_corners=False)
        values["flow"].append(map_[0, 0].numpy())
        values["difference"].append((x - out.reconstruction).abs().mean(1)[0].numpy())
    assert len(truth) == 6
    assert pixel.keys() == values.keys()
    for name, maps in values.items():
        expected = roc_auc_score(np.stack(truth).ravel(), np.stack(maps).ravel())
        assert pixel[name]["pixel_auroc"] == pytest.approx(expected, abs=1e-5)
        assert pixel[name]["aupro"] is not None


def test_other_images_never_enter_the_pixel_metrics(tiny: TinyStudy, model: AEFlow) -> None:
    _, before = score_images(*opened(tiny), model, 0.3)
    draw = np.random.default_rng(4)
    for number, row in enumerate(tiny.rows):
        if row["split"] != "test" or row["defect"] == "NA":
            tiny.features[number] = draw.normal(size=tiny.features[number].shape) * 9
            tiny.images[number] = 255 - tiny.images[number]
    _, after = score_images(*opened(tiny), model, 0.3)
    assert after == before


def test_without_masks_there_are_no_pixel_metrics(tiny: TinyStudy, model: AEFlow) -> None:
    for row in tiny.rows:
        row["mask_row"] = ""
    tiny.masks = tiny.masks[:0]
    table, pixel = score_images(*opened(tiny), model, 0.3)
    assert pixel == {}
    assert len(table) == 14


def test_a_tanh_decoder_is_scored_in_pixels(tiny: TinyStudy) -> None:
    """Its output is in ImageNet's units: scored as it is, a perfect picture would look wrong."""
    settings = tiny_settings(decoder={"output": "tanh"})
    model = AEFlow(6, 4, 8, settings.flow, settings.decoder)
    prepared, source = opened(tiny)
    with torch.no_grad():
        _, out = run_model(source, model, np.arange(4))
        raw = model(source.features(np.arange(4), source.images(np.arange(4)))).reconstruction
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    sd = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(out.reconstruction, (raw * sd + mean).clamp(0, 1))
    assert prepared.images.dtype == np.uint8


def test_the_scripts_output_is_read_back_as_it_was(
    tiny: TinyStudy, train: Callable[..., Path], tmp_path: Path
) -> None:
    """From a training to a score table, through files, without losing a digit."""
    out = train("out")
    scores = tmp_path / "scores.csv"
    settings = json.dumps(tiny_settings().model_dump(mode="json"))
    arguments = [
        "--method",
        "aeflow",
        "--settings",
        settings,
        "--fpr-limit",
        "0.3",
        *tiny.inputs(),
    ]
    arguments += [
        "--model",
        str(out / "model.safetensors"),
        "--summary",
        str(out / "summary.json"),
    ]
    scored = tmp_path / "scored.json"
    arguments += ["--scores", str(scores), "--scored", str(scored)]
    score_images_script([*arguments, "--gallery", str(tmp_path / "gallery.npz")])
    table = read_scores(scores, scored)
    trained = AEFlow(6, 4, 8, tiny_settings().flow, tiny_settings().decoder)
    trained.load_state_dict(load_file(out / "model.safetensors"))
    expected, pixel = score_images(*opened(tiny), trained, 0.3)
    for column in COLUMNS[4:]:
        assert list(table[column]) == list(expected[column])
    assert json.loads(scored.read_text())["pixel"] == pixel
