"""anomalib's methods on our features: against its own models, numpy and hand computation."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("anomalib", reason="anomalib is not installed: run `make peers`")
import torch
from anomalib.models.image.fastflow.torch_model import FastflowModel

from aeflow.core.errors import TrainingError
from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.fastflow import FastFlow
from aeflow.methods.ganomaly import Ganomaly
from aeflow.methods.method import fit_epochs
from aeflow.methods.padim import Padim
from aeflow.methods.patchcore import Patchcore
from aeflow.scoring.combine import pred_score
from aeflow.scoring.score_tables import read_scores
from aeflow.study.settings import ScoreSettings, TrainingSettings
from scripts.fit_peer import main
from tests.unit.tiny import TinyStudy, tiny_settings

CPU = torch.device("cpu")
TRAINING = TrainingSettings(epochs=2, batch_size=7, threads=1)
# Rows of `source`: 20 to train, 5 to validate, 4 strange ones.
TRAIN, VALIDATION, STRANGE = np.arange(20), np.arange(20, 25), np.arange(25, 29)
METHODS = ["fastflow", "patchcore", "padim", "ganomaly"]
pytestmark = pytest.mark.usefixtures("torch_as_it_was")


def make_source(channels: int = 6, side: int = 4, image_side: int = 32) -> FeatureSource:
    """Return features of 29 images; the last four have a spot that the others have not."""
    draw = np.random.default_rng(1)
    images = draw.integers(96, 160, (29, image_side, image_side, 3), dtype=np.uint8)
    images[STRANGE] = draw.integers(0, 256, images[STRANGE].shape, dtype=np.uint8)
    features = draw.normal(size=(29, side, side, channels))
    features[STRANGE, 1:3, 1:3] += 6
    return FeatureSource(images, CPU, cache=features.astype(np.float16))


@pytest.fixture
def source() -> FeatureSource:
    torch.manual_seed(0)
    return make_source()


def flat(source: FeatureSource, rows: np.ndarray) -> np.ndarray:
    """Return features as float64, (B, h, w, C)."""
    return source.features(rows).permute(0, 2, 3, 1).double().numpy()


def test_fastflow_is_one_scale_of_anomalibs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anomalib's own model, given our features instead of its backbone's, says the same."""
    source = make_source(channels=64, side=16, image_side=64)
    ours = FastFlow(source, TRAINING)
    theirs = FastflowModel((64, 64), "resnet18", pre_trained=False)
    theirs.norms = torch.nn.ModuleList([ours.model["norm"]])
    theirs.fast_flow_blocks = torch.nn.ModuleList([ours.model["flow"]])
    features = source.features(VALIDATION)
    monkeypatch.setattr(theirs.feature_extractor, "forward", lambda _: [features])
    images = source.images(VALIDATION)
    with torch.no_grad():
        torch.nn.init.normal_(ours.model["norm"].weight)
        hidden, jacobians = theirs.train()(images)
        expected = theirs.eval()(images)
        assert torch.equal(ours.loss(VALIDATION), ours._loss(hidden, jacobians))
        by_hand = (0.5 * hidden[0].square().sum((1, 2, 3)) - jacobians[0]).mean()
        assert ours.loss(VALIDATION).item() == pytest.approx(by_hand.item())
    found = ours.score(VALIDATION)
    assert torch.equal(found.anomaly_map, expected.anomaly_map[:, 0])
    assert torch.equal(found.pred_score, expected.pred_score[:, 0])
    assert found.anomaly_map.shape == (5, 64, 64)
    assert -1 <= found.pred_score.min() <= found.pred_score.max() < 0


def test_fastflow_learns(source: FeatureSource) -> None:
    peer = FastFlow(source, TRAINING)
    before = peer.loss(VALIDATION).item()
    fitted = peer.fit(TRAIN, VALIDATION, seed=0)
    best = min(row["val_loss"] for row in fitted.history)
    assert best < before
    assert peer.loss(VALIDATION).item() == pytest.approx(best, rel=1e-5)
    assert fitted.history[fitted.best_epoch - 1]["val_loss"] == best


def test_padim_is_mahalanobis_distance(source: FeatureSource) -> None:
    peer = Padim(source, TRAINING)
    peer.fit(TRAIN, VALIDATION, seed=0)
    channels = peer.channels.numpy()
    train, test = flat(source, TRAIN)[..., channels], flat(source, STRANGE)[..., channels]
    expected = np.empty(test.shape[:3])
    for y in range(4):
        for x in range(4):
            # anomalib adds 0.01 and another 1e-5 to the variances.
            covariance = np.cov(train[:, y, x], rowvar=False) + 0.01001 * np.eye(6)
            delta = test[:, y, x] - train[:, y, x].mean(axis=0)
            squared = np.einsum("bi,ij,bj->b", delta, np.linalg.inv(covariance), delta)
            expected[:, y, x] = np.sqrt(squared)
    assert peer.distances(STRANGE).numpy() == pytest.approx(expected, rel=1e-3)
    found = peer.score(STRANGE)
    assert torch.equal(found.pred_score, found.anomaly_map.amax((1, 2)))


def test_padim_draws_some_of_many_channels() -> None:
    def channels(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return Padim(make_source(channels=130), TRAINING).channels.tolist()

    assert len(set(channels(0))) == 100
    assert channels(0) == channels(0) != channels(1)


def pooled(source: FeatureSource, rows: np.ndarray) -> np.ndarray:
    """Return features averaged over 3 x 3 positions, zeros beyond the border, (B, 16, C)."""
    padded = np.pad(flat(source, rows), ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [padded[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
    return np.mean(parts, axis=0).reshape(len(rows), 16, -1)


def test_patchcore_is_the_distance_to_the_nearest(source: FeatureSource) -> None:
    peer = Patchcore(source, TRAINING)
    peer.fit(TRAIN, VALIDATION, seed=0)
    memory = peer.model.memory_bank.double().numpy()
    train, test = pooled(source, TRAIN), pooled(source, STRANGE)
    assert len(memory) == 3  # one per cent of 320 positions
    for kept in memory:
        assert np.abs(train - kept).max(axis=-1).min() < 1e-5
    distances = np.linalg.norm(test[:, :, None] - memory, axis=-1)
    found, scores = peer.distances(STRANGE)
    assert found.numpy().reshape(4, 16) == pytest.approx(distances.min(axis=2), rel=1e-4)
    for image in range(4):
        # The paper's weight, of the farthest position; all of the memory are neighbours here.
        position = distances[image].min(axis=1).argmax()
        to_memory = distances[image, position]
        weight = 1 - math.exp(to_memory.min()) / np.exp(to_memory).sum()
        assert scores[image].item() == pytest.approx(weight * to_memory.min(), rel=1e-4)


def test_patchcore_keeps_what_is_far_from_what_it_kept(source: FeatureSource) -> None:
    peer = Patchcore(source, TRAINING)
    peer.fit(TRAIN, VALIDATION, seed=0)
    memory = peer.model.memory_bank.double().numpy()
    train = pooled(source, TRAIN).reshape(320, -1)
    for count in (1, 2):
        to_kept = np.linalg.norm(train[:, None] - memory[:count], axis=-1).min(axis=1)
        assert np.linalg.norm(memory[count] - train[to_kept.argmax()]) < 1e-5


def test_patchcore_refuses_too_few_positions(source: FeatureSource) -> None:
    with pytest.raises(TrainingError, match="1% of 192 positions"):
        Patchcore(source, TRAINING).fit(TRAIN[:12], VALIDATION, seed=0)


def test_ganomaly_scores_the_difference_of_its_latent_vectors(source: FeatureSource) -> None:
    peer = Ganomaly(source, TRAINING)
    fitted = peer.fit(TRAIN, VALIDATION, seed=0)
    assert fitted.best_epoch in (1, 2)
    peer.model.eval()
    with torch.no_grad():
        _, first, second = peer.model.generator(peer.images(STRANGE))
    expected = (first - second).square().mean(dim=1).flatten()
    found = peer.score(STRANGE)
    assert torch.allclose(found.pred_score, expected)
    assert found.anomaly_map is None


@pytest.mark.parametrize(("image_side", "side"), [(32, 32), (96, 64), (64, 64), (256, 64)])
def test_ganomaly_takes_a_power_of_two(image_side: int, side: int) -> None:
    peer = Ganomaly(make_source(image_side=image_side), TRAINING)
    images = peer.images(VALIDATION)
    assert images.shape == (5, 3, side, side)
    # ImageNet's normalisation of pixels around the middle of [0, 1].
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.06, 0.2, 0.42], abs=0.06)


def test_the_epoch_rule_is_that_of_the_study() -> None:
    """Validation losses 3, 1, 2: the second epoch is the best, the third the last."""
    for rule, expected in (("best_val_loss", 2), ("last", 3)):
        model, losses = torch.nn.Linear(1, 1), iter([3.0, 1.0, 2.0])
        weight = model.weight

        def step(rows: np.ndarray, weight: Any = weight) -> float:
            with torch.no_grad():
                weight += 1
            return 0.0

        training = TrainingSettings(epochs=3, batch_size=99, epoch_rule=rule)
        start = weight.item()
        fitted = fit_epochs(
            model, step, lambda rows, at=losses: next(at), training, 0, TRAIN, VALIDATION
        )
        assert fitted.best_epoch == expected
        assert model.weight.item() == pytest.approx(start + expected)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="epoch 1 is nan"):
        fit_epochs(model, lambda _: math.nan, lambda _: 1.0, TRAINING, 0, TRAIN, VALIDATION)


@pytest.mark.parametrize("peer", [FastFlow, Patchcore, Padim])
def test_strange_features_score_higher(source: FeatureSource, peer: type[Any]) -> None:
    model = peer(source, TRAINING)
    model.fit(TRAIN, VALIDATION, seed=0)
    normal, strange = model.score(VALIDATION), model.score(STRANGE)
    assert normal.pred_score.max() < strange.pred_score.min()
    assert normal.anomaly_map.max() < strange.anomaly_map.amax((1, 2)).min()


@pytest.fixture
def fit(tiny: TinyStudy) -> Callable[..., Path]:
    """Return a function that fits a peer on a larger tiny study."""
    # Twice the positions, so that PatchCore has enough.
    tiny.features = np.concatenate([tiny.features, tiny.features], axis=1)
    tiny.features = np.concatenate([tiny.features, tiny.features], axis=2)
    tiny.save()

    def run(name: str, method: str, seed: int = 0) -> Path:
        out = tiny.folder.parent / name
        outputs = {"scores": "scores.csv", "scored": "scored.json", "summary": "summary.json"}
        written = [part for key, f in outputs.items() for part in (f"--{key}", str(out / f))]
        settings = tiny_settings(training={"epochs": 2}).model_dump_json()
        chosen = ["--method", method, "--settings", settings, "--seed", str(seed)]
        main([*chosen, "--fpr-limit", "0.3", *tiny.inputs(), *written])
        return out

    return run


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bytes(fit: Callable[..., Path], method: str) -> None:
    first, again, other = fit("a", method), fit("b", method), fit("c", method, seed=1)
    for name in ("scores.csv", "scored.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert (first / "scores.csv").read_bytes() != (other / "scores.csv").read_bytes() or (
        method == "padim"  # six channels, all of them taken
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_a_peer_writes(fit: Callable[..., Path], tiny: TinyStudy, method: str) -> None:
    out = fit("a", method)
    table = read_scores(out / "scores.csv", out / "scored.json")
    assert list(table.columns) == ["image_id", "split", "gt_label", "defect", method]
    wanted = [row["image_id"] for row in tiny.rows if row["split"] != "train"]
    assert table["image_id"].tolist() == wanted
    scores = pred_score(table, Method(method), ScoreSettings())
    assert scores.tolist() == pd.read_csv(out / "scores.csv")[method].tolist()
    pixel = json.loads((out / "scored.json").read_text())["pixel"]
    assert list(pixel) == ([] if method == "ganomaly" else [method])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["n_train"] == 12
    assert summary["versions"]["anomalib"] == "2.7.0"
    assert (summary["best_epoch"] is None) == (method in ("patchcore", "padim"))
    assert summary["fit_seconds"] > 0
    assert summary["peak_rss_mib"] > 0


def test_no_normals_to_train_on(fit: Callable[..., Path], tiny: TinyStudy) -> None:
    for row in tiny.rows:
        row["split"] = "test"
    tiny.save()
    with pytest.raises(TrainingError, match="0 training and 0 validation normals"):
        fit("a", "padim")
