"""anomalib's methods on our features: against its own models, numpy and hand computation."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anomalib", reason="anomalib is not installed: run `make peers`")
import torch
from anomalib.models.image.fastflow.torch_model import FastflowModel

from aeflow.core.errors import TrainingError
from aeflow.core.receipts import read_receipt
from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import Learner, detector_of
from aeflow.study.settings import FitSettings, PatchcoreSettings
from aeflow.training.state import State
from aeflow.training.trainer import Trained, Trainer
from tests.unit.tiny import TinyStudy, cache_of, score_tiny, tiny_settings

SETTINGS = tiny_settings(training={"epochs": 2, "batch_size": 7})
# Rows of `source`: 20 to train, 5 to validate, 4 strange ones.
TRAIN, VALIDATION, STRANGE = np.arange(20), np.arange(20, 25), np.arange(25, 29)
METHODS = ["fastflow", "patchcore", "padim", "ganomaly"]
pytestmark = pytest.mark.usefixtures("torch_as_it_was", "narrow_ganomaly")


def make_source(channels: int = 6, side: int = 4, image_side: int = 32) -> FeatureSource:
    """Return features of 29 images; the last four have a spot that the others have not."""
    draw = np.random.default_rng(1)
    images = draw.integers(96, 160, (29, image_side, image_side, 3), dtype=np.uint8)
    images[STRANGE] = draw.integers(0, 256, images[STRANGE].shape, dtype=np.uint8)
    features = draw.normal(size=(29, side, side, channels))
    features[STRANGE, 1:3, 1:3] += 6
    stage = (image_side // side).bit_length() - 2
    return FeatureSource(images, torch.device("cpu"), cache=cache_of({stage: features}))


def several(
    draw: np.random.Generator, channels: dict[int, int], image_side: int, stages: Sequence[int]
) -> FeatureSource:
    """Return features of some stages; the last four images have a spot in each."""
    features = {}
    for stage in stages:
        side = image_side // 2 ** (stage + 1)
        features[stage] = draw.normal(size=(29, side, side, channels[stage]))
        features[stage][STRANGE, side // 4 : side // 2] += 6
    images = draw.integers(0, 256, (29, image_side, image_side, 3), dtype=np.uint8)
    return FeatureSource(images, torch.device("cpu"), cache=cache_of(features))


@pytest.fixture
def source() -> FeatureSource:
    torch.manual_seed(0)
    return make_source()


def make(method: str, source: FeatureSource, settings: FitSettings = SETTINGS) -> Learner:
    return detector_of(Method(method))(source, settings, Method(method))


def fit(peer: Learner, folder: Path) -> Trained:
    """Fit, and load the epoch that was kept."""
    trainer = Trainer(peer, SETTINGS.training, 0, State(folder / "state", "x"))
    trained = trainer.fit(TRAIN, VALIDATION)
    peer.module.load_state_dict(trained.tensors)
    peer.module.eval()
    return trained


def flat(source: FeatureSource, rows: np.ndarray) -> np.ndarray:
    """Return features as float64, (B, h, w, C)."""
    return source.one_map(rows, "nearest").permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize("stages", [[1], [1, 2, 3]])
def test_fastflow_is_anomalibs(monkeypatch: pytest.MonkeyPatch, stages: list[int]) -> None:
    """Anomalib's own model, given our features instead of its backbone's, says the same."""
    draw = np.random.default_rng(1)
    source = several(draw, {1: 64, 2: 128, 3: 256}, 64, stages)
    ours = make("fastflow", source)
    theirs = FastflowModel((64, 64), "resnet18", pre_trained=False)
    theirs.norms, theirs.fast_flow_blocks = ours.module["norms"], ours.module["flows"]
    features = list(source.features(VALIDATION).values())
    monkeypatch.setattr(theirs.feature_extractor, "forward", lambda _: features)
    images = source.images(VALIDATION)
    with torch.no_grad():
        for norm in ours.module["norms"]:
            torch.nn.init.normal_(norm.weight)
        hidden, jacobians = theirs.train()(images)
        expected = theirs.eval()(images)
        loss = next(ours.losses(VALIDATION))["loss"]
        assert torch.equal(loss, ours._loss(hidden, jacobians))
        by_hand = [
            (0.5 * z.square().sum((1, 2, 3)) - log_det).mean()
            for z, log_det in zip(hidden, jacobians, strict=True)
        ]
        assert len(by_hand) == len(stages)
        assert loss.item() == pytest.approx(sum(by_hand).item())
    found = ours.score(VALIDATION)
    assert np.array_equal(found.maps["fastflow"], expected.anomaly_map[:, 0])
    score = found.components["fastflow"]
    assert np.array_equal(score, expected.pred_score[:, 0].double())
    assert found.maps["fastflow"].shape == (5, 64, 64)
    assert -1 <= score.min() <= score.max() < 0


@pytest.mark.parametrize("method", ["fastflow", "ganomaly"])
def test_the_epoch_that_is_kept_has_the_lowest_loss(
    source: FeatureSource, tmp_path: Path, method: str
) -> None:
    peer = make(method, source)

    def loss() -> float:
        with torch.no_grad():
            return next(peer.losses(VALIDATION))["loss"].item()

    before = loss()
    trained = fit(peer, tmp_path)
    best = min(row["val_loss"] for row in trained.history)
    assert trained.history[trained.best_epoch - 1]["val_loss"] == best
    assert loss() == pytest.approx(best, rel=1e-5)
    assert best < before or method == "ganomaly"  # its loss is that of a game


def test_padim_is_mahalanobis_distance(source: FeatureSource, tmp_path: Path) -> None:
    peer = make("padim", source)
    fit(peer, tmp_path)
    channels = peer.module.channels.numpy()
    train, test = flat(source, TRAIN)[..., channels], flat(source, STRANGE)[..., channels]
    expected = np.empty(test.shape[:3])
    for y in range(4):
        for x in range(4):
            # anomalib adds 0.01 and another 1e-5 to the variances.
            covariance = np.cov(train[:, y, x], rowvar=False) + 0.01001 * np.eye(6)
            delta = test[:, y, x] - train[:, y, x].mean(axis=0)
            squared = np.einsum("bi,ij,bj->b", delta, np.linalg.inv(covariance), delta)
            expected[:, y, x] = np.sqrt(squared)
    stored = [peer.module.mean, peer.module.inv_covariance]
    with torch.inference_mode():
        found = peer._map.compute_distance(peer._embedding(STRANGE), stored)[:, 0]
    assert found.numpy() == pytest.approx(expected, rel=1e-3)
    scored = peer.score(STRANGE)
    assert np.array_equal(scored.components["padim"], scored.maps["padim"].max((1, 2)))


@pytest.mark.parametrize("method", METHODS)
def test_what_was_loaded_scores_as_what_was_fitted(
    source: FeatureSource, tmp_path: Path, method: str
) -> None:
    """To the bit: a fit and its scores once were one process."""
    fitted, loaded = make(method, source), make(method, source)
    tensors = fit(fitted, tmp_path).tensors
    if not fitted.updates:
        fitted.fit(TRAIN)  # not what was loaded
        tensors = {name: tensor.clone() for name, tensor in fitted.module.state_dict().items()}
    loaded.module.load_state_dict(tensors)
    loaded.module.eval()
    for name, tensor in loaded.module.state_dict().items():  # a product's rounding follows it
        assert tensor.stride() == fitted.module.state_dict()[name].stride(), name
    rows = np.concatenate([VALIDATION, STRANGE])
    first, second = fitted.score(rows), loaded.score(rows)
    assert np.array_equal(first.components[method], second.components[method])
    assert all(np.array_equal(maps, second.maps[name]) for name, maps in first.maps.items())


@pytest.mark.parametrize("method", ["fastflow", "patchcore", "padim"])
def test_a_peer_on_several_stages_fits_and_scores(tmp_path: Path, method: str) -> None:
    """Memory and distances are of the finest stage, of the channels of all."""
    source = several(np.random.default_rng(2), {1: 4, 2: 6, 3: 8}, 32, [1, 2, 3])
    peer = make(method, source)
    fit(peer, tmp_path)
    normal, strange = peer.score(VALIDATION), peer.score(STRANGE)
    assert normal.components[method].max() < strange.components[method].min()
    assert strange.maps[method].shape == (4, 32, 32)
    if method == "padim":
        assert sorted(peer.module.channels.tolist()) == list(range(18))
        assert peer.module.inv_covariance.shape == (64, 18, 18)
    if method == "patchcore":
        assert peer.module.memory_bank.shape == (12, 18)  # a hundredth of 20 * 64 positions


def test_padim_draws_some_of_many_channels() -> None:
    def channels(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return make("padim", make_source(channels=130)).module.channels.tolist()

    assert len(set(channels(0))) == 100
    assert channels(0) == channels(0) != channels(1)


def test_patchcore_is_the_distance_to_the_nearest_of_a_coreset(
    source: FeatureSource, tmp_path: Path
) -> None:
    def pooled(rows: np.ndarray) -> np.ndarray:
        """Return features averaged over 3 x 3 positions, zeros beyond the border, (B, 16, C)."""
        padded = np.pad(flat(source, rows), ((0, 0), (1, 1), (1, 1), (0, 0)))
        parts = [padded[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        return np.mean(parts, axis=0).reshape(len(rows), 16, -1)

    peer = make("patchcore", source)
    fit(peer, tmp_path)
    memory = peer.module.memory_bank.double().numpy()
    train, test = pooled(TRAIN).reshape(320, -1), pooled(STRANGE)
    assert memory.shape == (3, 6)
    assert peer.parameters == 18
    for count in (0, 1, 2):
        distance = np.linalg.norm(train - memory[count], axis=1)
        assert distance.min() < 1e-5  # one of the training's positions,
        if count:  # and after the first, drawn by chance, the farthest from those before
            others = np.linalg.norm(train[:, None] - memory[:count], axis=-1).min(axis=1)
            assert distance.argmin() == others.argmax()
    distances = np.linalg.norm(test[:, :, None] - memory, axis=-1)
    scores = peer.score(STRANGE).components["patchcore"]
    for image in range(4):
        # The paper's weight, of the farthest position; all of the memory are neighbours here.
        position = distances[image].min(axis=1).argmax()
        to_memory = distances[image, position]
        weight = 1 - math.exp(to_memory.min()) / np.exp(to_memory).sum()
        assert scores[image] == pytest.approx(weight * to_memory.min(), rel=1e-4)


def test_patchcore_refuses_too_few_positions(source: FeatureSource) -> None:
    """And keeps more of them if asked."""
    with pytest.raises(TrainingError, match="12 training normals have 16 each: use 13"):
        make("patchcore", source).fit(TRAIN[:12])
    larger = SETTINGS.model_copy(update={"patchcore": PatchcoreSettings(coreset=0.1)})
    more = make("patchcore", source, larger)
    more.fit(TRAIN[:12])
    assert more.module.memory_bank.shape == (19, 6)


@pytest.mark.parametrize("method", [method for method in Method if method.peer])
def test_a_closed_form_has_no_epochs(method: Method, source: FeatureSource) -> None:
    assert (not make(method, source).updates) == method.closed


def test_padim_refuses_a_single_image(source: FeatureSource) -> None:
    with pytest.raises(TrainingError, match="2 or more training normals, there is 1"):
        make("padim", source).fit(TRAIN[:1])


def test_ganomaly_scores_the_difference_of_its_latent_vectors(source: FeatureSource) -> None:
    peer = make("ganomaly", source)
    peer.module.eval()
    with torch.no_grad():
        _, first, second = peer.module.generator(peer.images(STRANGE))
    expected = (first - second).square().mean(dim=1).flatten()
    found = peer.score(STRANGE)
    np.testing.assert_allclose(found.components["ganomaly"], expected, rtol=1e-6)
    assert found.maps == {}


@pytest.mark.parametrize(("image_side", "side"), [(32, 32), (96, 64), (256, 64)])
def test_ganomaly_takes_a_power_of_two(image_side: int, side: int) -> None:
    images = make("ganomaly", make_source(image_side=image_side)).images(VALIDATION)
    assert images.shape == (5, 3, side, side)
    # ImageNet's normalisation of pixels around the middle of [0, 1].
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.06, 0.2, 0.42], abs=0.06)


@pytest.mark.parametrize("method", ["fastflow", "patchcore", "padim"])
def test_strange_features_score_higher(source: FeatureSource, tmp_path: Path, method: str) -> None:
    peer = make(method, source)
    fit(peer, tmp_path)
    normal, strange = peer.score(VALIDATION), peer.score(STRANGE)
    assert normal.components[method].max() < strange.components[method].min()
    assert normal.maps[method].max() < strange.maps[method].max((1, 2)).min()


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_and_its_scores_through_files(
    tiny: TinyStudy, train: Callable[..., Path], method: str
) -> None:
    # Twice the positions, so that PatchCore has enough: of stage 1.
    tiny.features = tiny.features.repeat(2, axis=1).repeat(2, axis=2)
    tiny.save()
    encoder = {"stages": 1, "finetune": True}  # which it is not
    changes = {"training": {"epochs": 2}, "encoder": encoder}
    outs = [train(name, seed, method, **changes) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    tables, facts = zip(
        *(score_tiny(tiny.paths(), out, method, **changes) for out in outs), strict=True
    )
    for name in ("model.safetensors", "history.csv", "scores.csv", "gallery.npz"):
        first, again, other = ((out / name).read_bytes() for out in outs)
        assert first == again
        assert first != other or name != "model.safetensors"
    assert list(tables[0].columns) == ["image_id", "split", "gt_label", "defect", method]
    wanted = [row["image_id"] for row in tiny.rows if row["split"] != "train"]
    assert tables[0]["image_id"].tolist() == wanted
    maps = [] if method == "ganomaly" else [method]
    assert list(facts[0]["pixel"]) == maps
    with np.load(outs[0] / "gallery.npz") as gallery:
        assert [name for name in gallery.files if name.endswith("_map")] == [
            f"{name}_map" for name in maps
        ]
    receipt = read_receipt(outs[0] / "trained.json")
    epochs = 0 if method in ("patchcore", "padim") else 2
    history = (outs[0] / "history.csv").read_text().splitlines()
    assert history[0] == "epoch,train_loss,val_loss"
    assert receipt.facts["epochs_run"] == len(history) - 1 == epochs
    assert (receipt.facts["best_epoch"] is None) == (epochs == 0)
    assert receipt.facts["parameters"] > 0
    assert receipt.versions["anomalib"] == "2.7.0"
