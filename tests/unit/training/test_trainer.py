"""Training: what its result depends on, what stops it, and that any end of it can be resumed."""

import json
import math
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import TrainingError
from aeflow.core.receipts import read_receipt
from aeflow.core.tensors import read_facts
from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.aeflow import Detector
from aeflow.models.decoder import Decoder
from aeflow.models.losses import flow_nll
from aeflow.training.adam import Adam
from aeflow.training.state import State
from aeflow.training.trainer import Trainer
from tests.unit.tiny import TinyStudy, cache_of, fit_tiny, tiny_model, tiny_settings

Train = Callable[..., Path]


def made(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("model.safetensors", "history.csv")]


def history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv")


def first_row(tiny: TinyStudy, split: str) -> int:
    return next(n for n, r in enumerate(tiny.rows) if (r["split"], r["gt_label"]) == (split, 0))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(train: Train) -> None:
    first, other = train("first"), train("other", 1)
    assert made(first) == made(train("again"))
    assert made(first) != made(other)
    facts = read_receipt(first / "trained.json").facts
    assert facts | {"fit_seconds": 0, "peak_rss_mib": 0, "parameters": 0} == {
        **{"device": "cpu", "n_train": 12, "n_validation": 4, "best_epoch": 4, "epochs_run": 4},
        **{"fit_seconds": 0, "peak_rss_mib": 0, "parameters": 0},
    }
    model = tiny_model()
    assert facts["parameters"] == sum(each.numel() for each in model.parameters())
    assert min(facts["fit_seconds"], facts["peak_rss_mib"]) > 0
    # Before the first epoch a decoder has learned nothing, however good the flow is then.
    assert list(history(first)["epoch"]) == [1, 2, 3, 4]
    assert not (first / "state.safetensors").exists()


def test_the_first_weights_follow_from_the_seed(train: Train) -> None:
    """Not the order of the images alone: lr so small that nothing moves."""
    still = {"lr": 1e-30, "epochs": 1}
    first, other = (
        load_file(train(f"seed{seed}", seed, training=still) / "model.safetensors")
        for seed in (0, 1)
    )
    for name in ("flows.0.steps.0.permutation", "decoder.layers.0.weight"):
        assert not torch.equal(first[name], other[name])


def test_the_losses_of_the_history_are_means_over_images(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An independent evaluation of the untrained model: lr so small that nothing moves."""
    # Subnets that put out zeros would make the flow the identity.
    monkeypatch.setattr(torch.nn.init, "zeros_", lambda tensor: tensor.data.normal_(0, 0.1))
    out = train("out", training={"lr": 1e-30, "epochs": 1}, loss={"alpha": 0.25})
    (row,) = (row for _, row in history(out).iterrows())
    model = tiny_model()
    model.load_state_dict(load_file(out / "model.safetensors"))
    for prefix, rows in (
        ("train", tiny.prepared.train),
        ("val", tiny.prepared.validation_normals),
    ):
        x = torch.from_numpy(tiny.images[rows]).permute(0, 3, 1, 2) / 255
        z = torch.from_numpy(tiny.features[rows]).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            (latent,), (log_det,), reconstruction = model([z])
        assert log_det.abs().max() > 0.01
        normal = torch.distributions.Normal(0, 1)
        log_p = normal.log_prob(latent).sum((1, 2, 3)) + log_det.sum((1, 2))
        nll = -log_p.mean() / (6 * 4 * 4)
        mse = ((x - reconstruction) ** 2).mean()
        assert row[f"{prefix}_flow_nll"] == pytest.approx(nll.item(), rel=1e-5)
        assert row[f"{prefix}_reconstruction"] == pytest.approx(mse.item(), rel=1e-5)
        expected = 0.25 * nll.item() + 0.75 * mse.item()
        assert row[f"{prefix}_loss"] == pytest.approx(expected, rel=1e-5)
    alone = train("flow", 0, "flow", training={"lr": 1e-30, "epochs": 1})
    untrained, trained = history(alone)["val_flow_nll"]
    assert untrained == trained == row["val_flow_nll"]


def test_anomalous_and_test_images_never_influence_training(tiny: TinyStudy, train: Train) -> None:
    changes = {"flow": {"steps": 2, "standardise": "channel"}}
    before = train("before", **changes)
    draw = np.random.default_rng(9)
    for number, row in enumerate(tiny.rows):
        if row["split"] == "test" or (row["split"] == "validation" and row["gt_label"] == 1):
            tiny.features[number] = draw.normal(size=tiny.features[number].shape) * 50
            tiny.images[number] = draw.integers(0, 256, tiny.images[number].shape)
            if row["split"] == "test":
                row["gt_label"] = 1 - row["gt_label"]
    tiny.masks = tiny.masks[:0]
    tiny.save()
    assert made(before) == made(train("after", **changes))


@pytest.mark.parametrize(
    ("split", "changes"), [("train", "train_loss"), ("validation", "val_loss")]
)
def test_normals_do_influence_it(tiny: TinyStudy, train: Train, split: str, changes: str) -> None:
    """The control of the test above: the features that count are read from the files."""
    before = history(train("before"))
    tiny.features[first_row(tiny, split)] *= 3
    tiny.save()
    after = history(train("after"))
    assert before.loc[1, changes] != after.loc[1, changes]
    assert (before.loc[1, "train_loss"] != after.loc[1, "train_loss"]) == (split == "train")


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
    # Twice, three batches of training normals (5, 5 and 2 images) and one of validation normals.
    assert [len(batch) for batch in seen] == [5, 5, 2, 4] * 2
    assert all(batch == sorted(batch) for batch in seen)  # files are read in one direction
    first, second = seen[0:3], seen[4:7]
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == tiny.prepared.train.tolist()
    assert first != second
    seen.clear()
    train("other", 1, training={"epochs": 1})
    assert seen[0:3] != first


def test_the_rate_falls_with_every_step(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 normals in batches of 5, 4 epochs: steps after 0, 5/12, 10/12, 1, ... of an epoch."""
    shares: list[float] = []
    step = Adam.step

    def noted(adam: Adam, loss: torch.Tensor, share: float, retain_graph: bool) -> None:
        shares.append(share)
        step(adam, loss, share, retain_graph)

    monkeypatch.setattr(Adam, "step", noted)
    train("out", training={"lr_schedule": "cosine"})
    done = [epoch + images / 12 for epoch in range(4) for images in (0, 5, 10)]
    assert shares == pytest.approx([each / 4 for each in done])


def scripted_validation(
    monkeypatch: pytest.MonkeyPatch, losses: list[float]
) -> list[dict[str, torch.Tensor]]:
    """Let the validation loss be `losses`, and collect the model's tensors at each epoch."""
    seen: list[dict[str, torch.Tensor]] = []

    def validate(trainer: Trainer, *_: Any) -> dict[str, float]:
        seen.append({name: t.clone() for name, t in trainer.learner.module.state_dict().items()})
        return {"val_loss": losses[len(seen) - 1]}

    monkeypatch.setattr(Trainer, "_validate", validate)
    return seen


@pytest.mark.parametrize(
    ("method", "losses", "rule", "kept"),
    [
        ("flow", [4.0, 3.0, 1.0, 2.0, 1.0], "best_val_loss", 2),  # the first of equals counts
        ("flow", [4.0, 3.0, 1.0, 2.0, 1.0], "last", 4),
        ("flow", [1.0, 3.0, 1.0, 2.0, 1.0], "best_val_loss", 0),
        ("flow", [-9.0, 3.0, 1.0, 2.0, 1.0], "last", 4),
        ("aeflow", [4.0, 1.0, 2.0, 1.0], "best_val_loss", 2),
        ("aeflow", [1.0, 3.0, 2.0, 1.0], "best_val_loss", 1),
        ("autoencoder", [-9.0, 3.0, 2.0, 1.0], "last", 4),
    ],
)
def test_the_epoch_rule_decides_what_is_kept(
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    losses: list[float],
    rule: str,
    kept: int,
) -> None:
    """Epoch 0 is a candidate where there is no decoder."""
    seen = scripted_validation(monkeypatch, losses)
    out = train("out", 0, method, training={"epoch_rule": rule})
    assert len(seen) == len(losses)
    assert read_receipt(out / "trained.json").facts["best_epoch"] == kept
    written = load_file(out / "model.safetensors")
    assert written.keys() == seen[0].keys()
    for number, tensors in enumerate(seen, start=5 - len(losses)):
        same = all(torch.equal(written[name], tensors[name]) for name in written)
        assert same == (number == kept)


def test_a_training_that_only_hurts_is_as_if_there_had_been_none(
    tiny: TinyStudy, train: Train
) -> None:
    """Epoch 0, what whitening alone gives, is a candidate and has no loss of a training."""
    flow = {"standardise": "whiten", "steps": 2}
    out = train("out", 0, "flow", flow=flow, training={"lr": 1.0})
    rows = history(out)
    assert list(rows["epoch"]) == [0, 1, 2, 3, 4]
    assert rows["val_loss"].argmin() == 0
    assert rows.filter(like="train_").isna().all(axis=1).tolist() == [True, *[False] * 4]
    assert rows.filter(like="val_").notna().all(axis=None)
    assert (out / "history.csv").read_text().splitlines()[1].startswith("0,,,")
    assert read_receipt(out / "trained.json").facts["best_epoch"] == 0
    still = train("still", 0, "flow", flow=flow, training={"lr": 1e-30, "epochs": 1})
    kept, untrained = (load_file(each / "model.safetensors") for each in (out, still))
    for name, tensor in untrained.items():
        assert torch.equal(kept[name], tensor), name


def test_epoch_0_is_no_candidate_of_peers_whose_start_says_nothing(train: Train) -> None:
    pytest.importorskip("anomalib", reason="anomalib is not installed: run `make peers`")
    assert list(history(train("out", 0, "ganomaly", training={"epochs": 2}))["epoch"]) == [1, 2]


def drawn_rows(
    monkeypatch: pytest.MonkeyPatch, train: Train, name: str, seed: int, most: int | None
) -> list[int]:
    """Return the rows that a Gaussian was fitted to."""
    rows: list[int] = []
    fit = Detector.fit

    def spy(detector: Detector, train: np.ndarray) -> None:
        rows.extend(int(row) for row in train)
        fit(detector, train)

    monkeypatch.setattr(Detector, "fit", spy)
    out = train(name, seed, "gaussian", training={"max_normals": most})
    monkeypatch.setattr(Detector, "fit", fit)
    assert read_receipt(out / "trained.json").facts["n_train"] == len(rows)
    return rows


def test_few_normals_are_a_part_of_many_and_other_seeds_draw_others(
    tiny: TinyStudy, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = tiny.prepared.train.tolist()
    found = {
        (seed, most): drawn_rows(monkeypatch, train, f"{seed}-{most}", seed, most)
        for seed in (0, 1)
        for most in (2, 5, 11, 12, 500, None)
    }
    for seed in (0, 1):
        assert [len(found[seed, most]) for most in (2, 5, 11)] == [2, 5, 11]
        assert found[seed, 12] == found[seed, 500] == found[seed, None] == every
        for few, many in ((2, 5), (5, 11), (11, 12)):
            assert set(found[seed, few]) < set(found[seed, many])
            assert found[seed, few] == sorted(found[seed, few])
    assert set(found[0, 5]) != set(found[1, 5])


def test_an_epoch_goes_over_the_images_that_were_drawn_and_no_others(
    tiny: TinyStudy, train: Train
) -> None:
    """What is not drawn may be anything; validation stays whole."""
    few = {"flow": {"standardise": "whiten"}, "training": {"max_normals": 5}}
    before = train("before", 0, "flow", **few)
    drawn = set(np.random.default_rng(0).permutation(tiny.prepared.train)[:5])
    for row in set(tiny.prepared.train) - drawn:
        tiny.features[row] = 1000
    tiny.save()
    assert made(train("after", 0, "flow", **few)) == made(before)
    assert read_receipt(before / "trained.json").facts["n_validation"] == 4
    tiny.features[next(iter(drawn))] = 1000
    tiny.save()
    assert made(train("other", 0, "flow", **few)) != made(before)


@pytest.mark.parametrize("method", ["gaussian", "flow"])
@pytest.mark.parametrize("covariance", ["position", "shared"])
def test_a_gaussian_of_one_image_is_a_sentence_that_says_what_to_do(
    train: Train, method: str, covariance: str
) -> None:
    """At each position there is no covariance; of all positions together there is one."""
    changes = {"gaussian": {"covariance": covariance}, "training": {"max_normals": 1}}
    changes["flow"] = {"standardise": "whiten"}
    if covariance == "shared":
        assert train("out", 0, method, **changes)
        return
    with pytest.raises(TrainingError, match="two or more different normal images") as caught:
        train("out", 0, method, **changes)
    assert str(caught.value).startswith("Whitening needs")


def test_noise_is_drawn_by_the_seed_and_only_for_training(train: Train) -> None:
    loud, flow = {"noise": 0.5, "standardise": "whiten"}, {"standardise": "whiten"}
    first = train("first", 0, "flow", flow=loud)
    assert made(train("again", 0, "flow", flow=loud)) == made(first)
    quiet = train("quiet", 0, "flow", flow=flow)
    assert made(quiet) != made(first)
    assert made(train("other", 1, "flow", flow=loud)) != made(first)
    # Before any epoch the two are the same flow, so validation hears no noise.
    assert history(first).loc[0, "val_loss"] == history(quiet).loc[0, "val_loss"]
    assert history(first).loc[1, "train_loss"] != history(quiet).loc[1, "train_loss"]


@pytest.mark.parametrize(
    ("split", "words"),
    [("train", ["epoch 1, step ", "training.lr"]), ("validation", ["validation", "epoch 0"])],
)
def test_a_loss_that_is_not_finite_stops_the_training(
    tiny: TinyStudy, train: Train, split: str, words: list[str]
) -> None:
    tiny.features[first_row(tiny, split)] = np.nan
    tiny.save()
    with pytest.raises(TrainingError) as caught:
        train("out")
    for word in [*words, "nan"]:
        assert word in str(caught.value)
    assert not (tiny.folder.parent / "out/model.safetensors").exists()


def test_the_step_is_counted_from_1_in_each_epoch(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    losses = Detector.losses

    def broken(detector: Detector, rows: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
        nonlocal steps
        steps += detector.module.training
        for parts in losses(detector, rows):
            yield parts | ({"loss": torch.tensor(math.inf)} if steps == 5 else {})

    monkeypatch.setattr(Detector, "losses", broken)
    with pytest.raises(TrainingError, match=r"in epoch 2, step 2 \(loss inf, flow_nll"):
        train("out")


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("method", ["aeflow", "padim"])
def test_training_needs_normals_on_both_sides(
    tiny: TinyStudy, train: Train, split: str, method: str
) -> None:
    if method == "padim":
        pytest.importorskip("anomalib", reason="anomalib is not installed: run `make peers`")
    for row in tiny.rows:
        if row["split"] == split:
            row["split"] = "test"
    tiny.save()
    with pytest.raises(TrainingError, match=r"val_fraction"):
        train("out", 0, method)


def test_it_learns_what_normal_looks_like(tmp_path: Path) -> None:
    """Normals are smooth blobs; anomalies are the same pixels in random order.

    Both have the same energy before training, so that nothing but what was learnt tells them
    apart.
    """
    draw = np.random.default_rng(1)
    y, x = np.mgrid[0:8, 0:8]
    centre, width = draw.uniform(1, 7, (2, 160, 1, 1)), draw.uniform(6, 20, (160, 1, 1))
    pictures = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / width)
    pictures[120:] = draw.permuted(pictures[120:].reshape(40, 64), axis=1).reshape(40, 8, 8)
    blocks = 4 * pictures.reshape(160, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4) - 1
    pixels = (255 * pictures).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    features = blocks.reshape(160, 4, 4, 4).astype(np.float16)
    source = FeatureSource(images, torch.device("cpu"), cache=cache_of({2: features}))
    settings = tiny_settings(flow={"steps": 4}, training={"epochs": 40, "batch_size": 16})
    torch.manual_seed(0)
    detector = Detector(source, settings, Method.AEFLOW)
    test = np.arange(80, 160)

    def auroc() -> float:
        with torch.no_grad():
            out = detector.module.eval()([source.features(test)[2]])
        return roc_auc_score(test >= 120, flow_nll(out.z[0], out.log_det[0]))

    before = auroc()
    trainer = Trainer(detector, settings.training, 0, State(tmp_path / "state", "x"))
    detector.module.load_state_dict(trainer.fit(np.arange(60), np.arange(60, 80)).tensors)
    assert 0.3 < before < 0.7
    assert auroc() > 0.95


# Ends itself at the n-th call of a function that every training comes by: no race, no waiting.
CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from aeflow.training import adam
from tests.unit.tiny import fit_tiny

where, number, out, *paths = sys.argv[1:]
owner, name = {"step": (adam, "adam"), "fsync": (os, "fsync")}[where]
original, calls = getattr(owner, name), 0

def interrupted(*arguments, **options):
    global calls
    calls += 1
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, interrupted)
fit_tiny([Path(path) for path in paths], Path(out))
"""


# An epoch of the tiny study has three steps: 5, 5 and 2 images. The state is written after each,
# and, without a decoder, before the first.
@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("step", 8),  # in the middle of the third epoch
        ("fsync", 3),  # while the state of the third epoch is written
    ],
)
def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(
    tiny: TinyStudy, train: Train, where: str, number: int
) -> None:
    expected = made(train("undisturbed"))
    out = tiny.folder.parent / "killed"
    command = [sys.executable, "-c", CHILD, where, str(number), str(out)]
    done = subprocess.run([*command, *map(str, tiny.paths())], timeout=120)
    assert done.returncode == -signal.SIGKILL
    saved = json.loads(read_facts(out / "state.safetensors")["progress"])
    assert [row["epoch"] for row in saved["history"]] == [1, 2]
    assert not (out / "model.safetensors").exists()
    assert made(train("killed")) == expected
    left = sorted(path.name for path in out.iterdir())
    assert left == ["history.csv", "model.safetensors", "trained.json"]


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Interrupt in the middle of an epoch, once; return the epochs that are trained."""
    epochs: list[int] = []
    train_epoch = Trainer._train_epoch

    def stop(trainer: Trainer, epoch: int, *rest: Any) -> dict[str, float]:
        epochs.append(epoch)
        row = train_epoch(trainer, epoch, *rest)
        if epoch == number and epochs.count(number) == 1:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(Trainer, "_train_epoch", stop)
    return epochs


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("aeflow", {"flow": {"subnet": "resnet", "standardise": "position"}}),
        ("aeflow", {"training": {"lr_schedule": "cosine"}}),
        ("aeflow", {"encoder": {"name": "lite0", "finetune": True}}),
        ("flow", {"flow": {"noise": 0.5, "standardise": "whiten"}}),
        ("aeflow", {"encoder": {"stages": [2, 3]}, "flow": {"noise": 0.5}}),
        ("aeflow", {"encoder": {"stages": 3}, "decoder": {"target": "features"}}),
        ("ganomaly", {}),  # two optimizers
    ],
)
def test_everything_that_is_trained_is_resumed(
    tiny: TinyStudy,
    torch_as_it_was: None,
    monkeypatch: pytest.MonkeyPatch,
    lite0: Path,
    method: str,
    changes: dict[str, Any],
) -> None:
    """Statistics of BatchNorms, moments, rates; dropout draws what it would have drawn."""
    if method == "ganomaly":
        pytest.importorskip("anomalib", reason="anomalib is not installed: run `make peers`")
    forward = Decoder.forward
    monkeypatch.setattr(
        Decoder, "forward", lambda s, z: forward(s, torch.dropout(z, 0.5, s.training))
    )
    tiny.add_stage(3, 5)
    tiny.save()
    paths, folder = [*tiny.paths()[:4], lite0], tiny.folder.parent
    changes["training"] = {"epochs": 2, **changes.get("training", {})}
    expected = made(fit_tiny(paths, folder / "undisturbed", 0, method, **changes))
    epochs = stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit_tiny(paths, folder / "out", 0, method, **changes)
    torch.rand(7)
    assert made(fit_tiny(paths, folder / "out", 0, method, **changes)) == expected
    assert epochs == ([0, 1, 2, 2] if method == "flow" else [1, 2, 2])


@pytest.fixture
def unfinished(train: Train, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leave a training with two finished epochs in `out`; return the epochs trained later."""
    epochs = stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train("out")
    epochs[:] = [3]  # it counts as stopped, and stops no other
    return epochs


@pytest.mark.parametrize("kept", [0, 100, -1, None])
def test_a_damaged_state_is_ignored_and_logged(
    tiny: TinyStudy,
    unfinished: list[int],
    train: Train,
    caplog: pytest.LogCaptureFixture,
    kept: int | None,
) -> None:
    state = tiny.folder.parent / "out/state.safetensors"
    if kept is None:
        save_file({"a": torch.zeros(1)}, state)  # somebody else's
    else:
        state.write_bytes(state.read_bytes()[:kept])
    assert made(train("out")) == made(train("undisturbed"))
    assert unfinished == [3, 1, 2, 3, 4, 1, 2, 3, 4]
    assert "training starts anew" in caplog.text


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ([1], {}),
        ([0, "flow"], {}),
        ([0], {"loss": {"alpha": 0.25}}),
        (["another split"], {}),
        (["other features"], {}),
        (["other code"], {}),
    ],
)
def test_a_state_of_another_training_is_ignored(
    tiny: TinyStudy,
    unfinished: list[int],
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[Any],
    changes: Any,
) -> None:
    if asked[0] == "another split":
        tiny.rows[first_row(tiny, "train")]["split"] = "validation"
        tiny.save()
    elif asked[0] == "other features":
        tiny.features *= 2
        tiny.save()
    elif asked[0] == "other code":
        monkeypatch.setattr("aeflow.training.state.code_digest", lambda *_: "another")
    train("out", *asked if isinstance(asked[0], int) else (), **changes)
    assert unfinished == [3, *([0] if "flow" in asked else []), 1, 2, 3, 4]


def test_the_time_of_the_first_run_counts(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr("aeflow.training.trainer.time.monotonic", lambda: float(next(clock)))
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train("out")  # looks at the clock at the start and when it saves: 0, 100, 200
    monkeypatch.setattr("aeflow.training.trainer.time.monotonic", lambda: 0.0)
    assert read_receipt(train("out") / "trained.json").facts["fit_seconds"] == 200


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state(tiny: TinyStudy) -> None:
    """The limit on file sizes stands in for a full disk: both refuse the write."""
    out = tiny.folder.parent / "out"
    code = """
import sys
from pathlib import Path
from aeflow.core.errors import DataError
from tests.unit.tiny import fit_tiny
out, *paths = map(Path, sys.argv[1:])
try:
    fit_tiny(paths, out)
except DataError as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), *map(str, tiny.paths())],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert f"Cannot write {out}/state.safetensors: files of that size" in done.stderr
    assert not list(out.iterdir())
