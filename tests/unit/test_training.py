"""Training: what its result depends on, and what stops it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from aeflow.core.errors import TrainingError
from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow
from aeflow.training.trainer import Trainer
from tests.unit.tiny import TinyStudy, tiny_settings

Train = Callable[..., Path]


def model_bytes(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(train: Train) -> None:
    first, again, other = train("first"), train("again"), train("other", seed=1)
    assert model_bytes(first) == model_bytes(again)
    assert (first / "history.csv").read_bytes() == (again / "history.csv").read_bytes()
    assert model_bytes(first) != model_bytes(other)


def test_the_summary_describes_the_training(train: Train, tiny: TinyStudy) -> None:
    out = train("out")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["n_train"], summary["n_validation"]) == (12, 4)
    assert summary["epochs_run"] == 4
    assert summary["seed"] == 0
    assert summary["device"] == "cpu"
    assert summary["settings"] == tiny_settings().model_dump(mode="json")
    assert list(history(out)["epoch"]) == [1, 2, 3, 4]
    assert not (out / "state.safetensors").exists()


def test_the_losses_of_the_history_are_means_over_images(tiny: TinyStudy, train: Train) -> None:
    """An independent evaluation of the untrained model: lr so small that nothing moves."""
    out = train("out", training={"lr": 1e-30, "epochs": 1}, loss={"alpha": 0.25})
    row = history(out).iloc[0]
    images, normals = torch.from_numpy(tiny.images), {"train": [], "validation": []}
    for number, line in enumerate(tiny.rows):
        if line["gt_label"] == 0 and line["split"] in normals:
            normals[line["split"]].append(number)
    model = AEFlow(6, 4, 8, tiny_settings().flow, tiny_settings().decoder)
    model.load_state_dict(load_file(out / "model.safetensors"))
    for split, prefix in (("train", "train"), ("validation", "val")):
        rows = normals[split]
        x = images[rows].permute(0, 3, 1, 2) / 255
        z = torch.from_numpy(tiny.features[rows]).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            latent, log_det, reconstruction = model(z)
        normal = torch.distributions.Normal(0, 1)
        nll = -(normal.log_prob(latent).sum((1, 2, 3)) + log_det).mean() / (6 * 4 * 4)
        mse = ((x - reconstruction) ** 2).mean()
        assert row[f"{prefix}_flow_nll"] == pytest.approx(nll.item(), rel=1e-5)
        assert row[f"{prefix}_reconstruction"] == pytest.approx(mse.item(), rel=1e-5)
        expected = 0.25 * nll.item() + 0.75 * mse.item()
        assert row[f"{prefix}_loss"] == pytest.approx(expected, rel=1e-5)


def test_anomalous_and_test_images_never_influence_training(tiny: TinyStudy, train: Train) -> None:
    before = train("before", flow={"steps": 2, "standardise": "channel"})
    draw = np.random.default_rng(9)
    for number, row in enumerate(tiny.rows):
        if row["split"] == "test" or (row["split"] == "validation" and row["gt_label"] == 1):
            tiny.features[number] = draw.normal(size=tiny.features[number].shape) * 50
            tiny.images[number] = draw.integers(0, 256, tiny.images[number].shape)
            if row["split"] == "test":
                row["gt_label"] = 1 - row["gt_label"]
    tiny.masks = 1 - tiny.masks
    tiny.save()
    after = train("after", flow={"steps": 2, "standardise": "channel"})
    assert model_bytes(before) == model_bytes(after)
    assert (before / "history.csv").read_bytes() == (after / "history.csv").read_bytes()


@pytest.mark.parametrize(
    ("split", "changes"), [("train", "train_loss"), ("validation", "val_loss")]
)
def test_normals_do_influence_it(tiny: TinyStudy, train: Train, split: str, changes: str) -> None:
    """The control of the test above: the features that count are read from the files."""
    before = history(train("before"))
    row = next(n for n, r in enumerate(tiny.rows) if (r["split"], r["gt_label"]) == (split, 0))
    tiny.features[row] *= 3
    tiny.save()
    after = history(train("after"))
    assert before.loc[0, changes] != after.loc[0, changes]
    assert (before.loc[0, "train_loss"] != after.loc[0, "train_loss"]) == (split == "train")


def test_the_order_of_images_changes_from_epoch_to_epoch_and_with_the_seed(
    tiny: TinyStudy, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    seen: list[list[int]] = []
    images = FeatureSource.images

    def spy(source: FeatureSource, rows: np.ndarray) -> torch.Tensor:
        seen.append([int(row) for row in rows])
        return images(source, rows)

    monkeypatch.setattr(FeatureSource, "images", spy)
    train("out", training={"epochs": 2})
    normals = [n for n, row in enumerate(tiny.rows) if row["split"] == "train"]
    # Three batches of training normals (5, 5 and 2 images), one of validation normals, twice.
    assert [len(batch) for batch in seen] == [5, 5, 2, 4] * 2
    assert all(batch == sorted(batch) for batch in seen)  # files are read in one direction
    first, second = seen[:3], seen[4:7]
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == normals
    assert first != second
    seen.clear()
    train("other", seed=1, training={"epochs": 1})
    assert seen[:3] != first


def test_the_standardisation_is_that_of_the_training_normals(
    tiny: TinyStudy, train: Train
) -> None:
    out = train("out", flow={"steps": 2, "standardise": "channel"})
    normals = [n for n, row in enumerate(tiny.rows) if row["split"] == "train"]
    values = tiny.features[normals].astype(float).reshape(-1, 6)
    variance = values.var(axis=0)
    tensors = load_file(out / "model.safetensors")
    mean, log_sd = (tensors[f"flow.standardisation.{name}"].ravel() for name in ("mean", "log_sd"))
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-6)
    # A hundredth of the mean variance is added to each.
    expected = 0.5 * np.log(variance + 0.01 * variance.mean())
    np.testing.assert_allclose(log_sd, expected, atol=1e-6)


def scripted_validation(
    monkeypatch: pytest.MonkeyPatch, losses: list[float]
) -> list[dict[str, torch.Tensor]]:
    """Let the validation loss be `losses`, and collect the model's tensors at each epoch."""
    seen: list[dict[str, torch.Tensor]] = []

    def validate(trainer: Trainer, rows: np.ndarray) -> dict[str, float]:
        seen.append({name: t.clone() for name, t in trainer.model.state_dict().items()})
        return {"loss": losses[len(seen) - 1], "flow_nll": 1.0, "reconstruction": 1.0}

    monkeypatch.setattr(Trainer, "_validate", validate)
    return seen


@pytest.mark.parametrize(("rule", "kept"), [("best_val_loss", 2), ("last", 4)])
def test_the_epoch_rule_decides_what_is_kept(
    train: Train, monkeypatch: pytest.MonkeyPatch, rule: str, kept: int
) -> None:
    seen = scripted_validation(monkeypatch, [3.0, 1.0, 2.0, 1.0])  # the first of equals counts
    out = train("out", training={"epoch_rule": rule})
    assert json.loads((out / "summary.json").read_text())["best_epoch"] == kept
    written = load_file(out / "model.safetensors")
    assert written.keys() == seen[0].keys()
    for number, tensors in enumerate(seen, start=1):
        same = all(torch.equal(written[name], tensors[name]) for name in written)
        assert same == (number == kept)


@pytest.mark.parametrize(
    ("split", "words"),
    [("train", ["epoch 1, step ", "training.lr"]), ("validation", ["validation", "epoch 1"])],
)
def test_a_loss_that_is_not_finite_stops_the_training(
    tiny: TinyStudy, train: Train, split: str, words: list[str]
) -> None:
    row = next(n for n, r in enumerate(tiny.rows) if (r["split"], r["gt_label"]) == (split, 0))
    tiny.features[row] = np.nan
    tiny.save()
    with pytest.raises(TrainingError) as caught:
        train("out")
    for word in [*words, "nan"]:
        assert word in str(caught.value)
    assert not (tiny.folder.parent / "out/model.safetensors").exists()


def test_the_step_is_counted_from_1_in_each_epoch(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    losses = Trainer._losses

    def broken(trainer: Trainer, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal steps
        loss, parts = losses(trainer, rows)
        steps += trainer.model.training
        return loss, (parts | {"loss": math.inf} if steps == 5 else parts)

    monkeypatch.setattr(Trainer, "_losses", broken)
    with pytest.raises(TrainingError, match=r"inf in epoch 2, step 2 \("):
        train("out")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_needs_normals_on_both_sides(tiny: TinyStudy, train: Train, split: str) -> None:
    for row in tiny.rows:
        if row["split"] == split:
            row["split"] = "test"
    tiny.save()
    with pytest.raises(TrainingError, match=r"val_fraction"):
        train("out")


def test_gradient_clipping_and_weight_decay_and_beta1_reach_adam(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    norms: list[float] = []
    adam = torch.optim.Adam

    class Spy(adam):
        def __init__(self, parameters: Any, **options: Any) -> None:
            given.append(options)
            super().__init__(parameters, **options)

        def step(self) -> None:
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    train("free")
    assert max(norms) > 0.01
    norms.clear()
    changes = {"gradient_clip": 0.01, "weight_decay": 0.125, "beta1": 0.5, "lr": 0.25}
    train("clipped", training=changes)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    assert given[-1] == {"lr": 0.25, "betas": (0.5, 0.999), "weight_decay": 0.125}


def test_bfloat16_runs_and_keeps_likelihoods_in_float32(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = []
    forward = AEFlow.forward
    monkeypatch.setattr(
        AEFlow, "forward", lambda model, z: outputs.append(forward(model, z)) or outputs[-1]
    )
    half = history(train("half", training={"precision": "bfloat16"}))
    assert {tensor.dtype for out in outputs for tensor in out} == {torch.float32}
    full = history(train("full"))
    assert (half["train_reconstruction"] != full["train_reconstruction"]).all()
    np.testing.assert_allclose(half["train_flow_nll"], full["train_flow_nll"], rtol=0.02)


def test_under_autocast_log_det_is_that_of_the_map_that_was_applied(tiny: TinyStudy) -> None:
    """The subnets' bfloat16 output is exact data; what follows must not be rounded again."""
    torch.manual_seed(0)
    settings = tiny_settings(flow={"steps": 1})
    flow = AEFlow(6, 4, 8, settings.flow, settings.decoder).flow
    z = torch.randn(1, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        out, log_det = flow(z)
        moved, _ = flow(z + torch.nn.functional.pad(torch.ones(1, 3, 4, 4), (0, 0, 0, 0, 3, 0)))
    # b' = b exp(s) + t: raising b by 1 raises b' by exp(s), whatever s and t are.
    scale = (moved - out)[(moved - out) != 0]
    assert scale.numel() == 3 * 4 * 4
    assert log_det.item() == pytest.approx(scale.double().log().sum().item(), abs=2e-4)
