"""Assembly: cache or encoder, the same training; a fine-tuned encoder is part of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.data.prepared import Prepared, open_prepared
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.features import FeatureSource, extract_features
from aeflow.models.aeflow import AEFlow
from aeflow.scoring.score_images import score_images
from aeflow.training.assembly import assemble
from aeflow.training.trainer import Trained, Trainer
from tests.unit.tiny import TinyStudy, tiny_settings

CPU = torch.device("cpu")
Build = Callable[..., tuple[FeatureSource, AEFlow]]


@pytest.fixture
def prepared(tiny: TinyStudy) -> Prepared:
    tiny.images = np.random.default_rng(0).integers(0, 256, (26, 64, 64, 3), dtype=np.uint8)
    tiny.masks = tiny.masks.repeat(2, 1).repeat(2, 2)
    tiny.save()
    return open_prepared(*(tiny.folder / f for f in ("images.npy", "masks.npy", "index.csv")))


@pytest.fixture
def build(prepared: Prepared, lite0: Path, tmp_path: Path) -> Build:
    """Return a function that extracts features under a limit in GiB, and assembles a model."""

    def make(limit: float = 1.0, **changes: dict[str, Any]) -> tuple[FeatureSource, AEFlow]:
        cache = tmp_path / f"{limit}.npy"
        extract_features(prepared.images, load_encoder(lite0, 3), CPU, limit, cache)
        torch.manual_seed(0)
        return assemble(prepared, tiny_settings(**changes), Method.AEFLOW, CPU, cache, lite0)

    return make


def fit(
    prepared: Prepared, built: tuple[FeatureSource, AEFlow], state: Path, **changes: Any
) -> Trained:
    source, model = built
    trainer = Trainer(model, source, tiny_settings(**changes), 0, state, "x")
    return trainer.fit(prepared.train, prepared.validation_normals)


def test_the_model_fits_the_features(build: Build) -> None:
    source, model = build()
    assert (source.channels, source.stride, source.side) == (112, 16, 4)
    rows = np.array([0, 1])
    out = model(source.features(rows, source.images(rows)))
    assert out.z.shape == (2, 112, 4, 4)
    assert out.log_det.shape == (2,)
    assert out.reconstruction.shape == (2, 3, 64, 64)


def test_an_empty_cache_falls_back_to_the_encoder_with_the_same_scores(
    build: Build, prepared: Prepared
) -> None:
    tables = []
    for limit in (1.0, 0.0):
        source, model = build(limit)
        tables.append(score_images(prepared, source, model, 0.3)[0])
    cached, computed = (table.drop(columns=["image_id", "split", "defect"]) for table in tables)
    np.testing.assert_allclose(cached, computed, rtol=1e-3)
    assert list(tables[0]["image_id"]) == list(tables[1]["image_id"])


def test_the_limit_of_the_cache_does_not_change_the_training(
    build: Build, prepared: Prepared, tmp_path: Path
) -> None:
    """Two epochs: rounding of sums in batches of another size must not show in the losses."""
    changes = {"training": {"epochs": 2, "batch_size": 6}}
    cached = fit(prepared, build(1.0, **changes), tmp_path / "a", **changes)
    computed = fit(prepared, build(0.0, **changes), tmp_path / "b", **changes)
    for row, other in zip(cached.history, computed.history, strict=True):
        assert row == pytest.approx(other, rel=1e-4)


def test_a_frozen_encoder_is_neither_trained_nor_saved(
    build: Build, prepared: Prepared, tmp_path: Path, lite0: Path
) -> None:
    source, model = build(0.0)
    encoder = source._encoder
    assert encoder is not None
    trained = fit(prepared, (source, model), tmp_path / "state")
    assert not any(name.startswith("encoder.") for name in trained.tensors)
    fresh = load_encoder(lite0, 3).state_dict()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, fresh[name]), name


def test_a_fine_tuned_encoder_changes_and_is_in_the_checkpoint(
    build: Build, prepared: Prepared, tmp_path: Path, lite0: Path
) -> None:
    changes = {"encoder": {"finetune": True}, "training": {"epochs": 1, "epoch_rule": "last"}}
    source, model = build(1.0, **changes)  # although there is a cache
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    trained = fit(prepared, (source, model), tmp_path / "state", **changes)
    saved = {
        name.removeprefix("encoder."): tensor
        for name, tensor in trained.tensors.items()
        if name.startswith("encoder.")
    }
    assert saved.keys() == before.keys()
    unchanged = [name for name in before if torch.equal(saved[name], before[name])]
    assert not unchanged
    scores = score_images(prepared, source, model, 0.3)[0]
    torch.manual_seed(99)
    again_source, again = build(1.0, **changes)
    again.load_state_dict(trained.tensors)
    repeated = score_images(prepared, again_source, again, 0.3)[0]
    np.testing.assert_allclose(repeated["nll"], scores["nll"], rtol=1e-6)
    assert load_file(lite0)  # the pretrained file is not touched


def test_a_fine_tuning_resumes_to_the_same_tensors(
    build: Build, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"encoder": {"finetune": True}, "training": {"epochs": 2, "batch_size": 6}}
    expected = fit(prepared, build(1.0, **changes), tmp_path / "a", **changes)
    finish = Trainer._finish_epoch

    def stop(trainer: Trainer, epoch: int, *rest: Any) -> dict[str, float]:
        if epoch == 2:
            raise KeyboardInterrupt
        return finish(trainer, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(prepared, build(1.0, **changes), tmp_path / "b", **changes)
    resumed = fit(prepared, build(1.0, **changes), tmp_path / "b", **changes)
    assert resumed.history == expected.history
    for name, tensor in expected.tensors.items():
        assert torch.equal(resumed.tensors[name], tensor), name


def test_a_cache_of_other_images_is_refused(
    build: Build, prepared: Prepared, tmp_path: Path, lite0: Path
) -> None:
    cache = tmp_path / "short.npy"
    np.save(cache, np.zeros((25, 4, 4, 112), dtype=np.float16))
    with pytest.raises(DataError, match=rf"{cache} holds 25 images.*26.*extract_features"):
        assemble(prepared, tiny_settings(), Method.AEFLOW, CPU, cache, lite0)


def test_with_a_cache_the_encoders_file_is_not_needed(
    build: Build, prepared: Prepared, tmp_path: Path, lite0: Path
) -> None:
    cache = tmp_path / "f.npy"
    np.save(cache, np.zeros((26, 4, 4, 8), dtype=np.float16))
    source, _ = assemble(
        prepared, tiny_settings(), Method.AEFLOW, CPU, cache, tmp_path / "nowhere"
    )
    assert (source.channels, source.stride) == (8, 16)
