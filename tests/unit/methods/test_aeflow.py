"""AE-FLOW, its flow alone and its autoencoder alone: parts, settings, and what they import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import multivariate_normal

from aeflow.core.receipts import read_receipt
from aeflow.core.types import FlowScore, Method, ReconstructionScore
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.features import FeatureSource
from aeflow.methods.aeflow import Detector
from aeflow.methods.method import Update
from aeflow.models.aeflow import AEFlow
from aeflow.study.defaults import load_study
from tests.unit.tiny import TinyStudy, score_tiny, tiny_model, tiny_settings

Train = Callable[..., Path]
CPU = torch.device("cpu")
# Columns of a score table, with two shares of positions.
FLOW = ["density", "latent_energy", "nll", "local_density_mean", "local_density_max"]
FLOW += ["local_nll_max", "local_energy_top_0.03", "local_energy_top_0.25"]
FLOW += ["local_nll_top_0.03", "local_nll_top_0.25"]
PIXELS, RESIDUAL = ["ssim", "mse", "centred_mse"], ["residual"]
RESIDUAL += ["residual_top_0.03", "residual_top_0.25"]
FLOW_MAPS = ["flow", "energy", "nll"]
FEATURES = {"encoder": {"stages": 3}, "decoder": {"target": "features"}}  # of stage 2
WHITEN = {"flow": {"steps": 0, "standardise": "whiten"}}


def test_every_definition_of_a_score_is_among_the_columns_here() -> None:
    names = {name.partition("_0.")[0] for name in (*FLOW, *PIXELS, *RESIDUAL)}
    assert names == {*FlowScore, *ReconstructionScore}


@pytest.mark.parametrize(
    ("method", "changes", "parts", "columns", "maps", "shown"),
    [
        (
            "aeflow",
            {},
            ["loss", "flow_nll", "reconstruction"],
            [*FLOW, *PIXELS],
            ["difference", *FLOW_MAPS],
            ["difference", "energy_map", "flow_map", "nll_map", "reconstruction"],
        ),
        (
            "aeflow",
            FEATURES,
            ["loss", "flow_nll", "reconstruction"],
            [*FLOW, *RESIDUAL],
            [*FLOW_MAPS, "residual"],
            ["energy_map", "flow_map", "nll_map", "residual_map"],
        ),
        ("flow", {}, ["loss", "flow_nll"], FLOW, FLOW_MAPS, ["energy_map", "flow_map", "nll_map"]),
        ("gaussian", {}, [], FLOW, FLOW_MAPS, ["energy_map", "flow_map", "nll_map"]),
        (
            "autoencoder",
            {},
            ["loss", "reconstruction"],
            PIXELS,
            ["difference"],
            ["difference", "reconstruction"],
        ),
        (
            "autoencoder",
            FEATURES,
            ["loss", "reconstruction"],
            RESIDUAL,
            ["residual"],
            ["residual_map"],
        ),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_method_has_its_own_parts_and_no_others(
    tiny: TinyStudy,
    train: Train,
    method: str,
    changes: dict[str, Any],
    parts: list[str],
    columns: list[str],
    maps: list[str],
    shown: list[str],
    several: bool,
) -> None:
    """On one stage or on two, of which the decoder reads the last."""
    tiny.add_stage(3, 5)
    tiny.save()
    changes = changes | ({"encoder": {"stages": [2, 3]}} if several else {})
    out = train("out", 0, method, **changes)
    history = pd.read_csv(out / "history.csv")
    expected = [f"{when}_{part}" for when in ("train", "val") for part in parts]
    assert list(history.columns) == ["epoch", *(expected or ["train_loss", "val_loss"])]
    if len(parts) == 2:  # no alpha in it
        trained = history.iloc[1:]
        assert list(trained["train_loss"]) == list(trained[f"train_{parts[1]}"])
    table, facts = score_tiny(tiny.paths(), out, method, **changes)
    assert list(table.columns[4:]) == columns
    assert np.isfinite(table[columns].to_numpy(np.float64)).all()
    assert sorted(facts["pixel"]) == sorted(maps)
    with np.load(out / "gallery.npz") as gallery:
        pictures = ("_map", "difference", "reconstruction")
        assert sorted(name for name in gallery.files if name.endswith(pictures)) == shown
    tensors = load_file(out / "model.safetensors")
    kinds = {"aeflow": {"flows", "decoder"}, "autoencoder": {"decoder"}}.get(method, {"flows"})
    kinds |= {"scales"} if several and "flows" in kinds else set()
    assert {name.split(".")[0] for name in tensors} == kinds


def test_only_the_maps_that_are_asked_for_are_enlarged_and_kept(tiny: TinyStudy) -> None:
    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    detector = Detector(source, tiny_settings(), Method.AEFLOW)
    rows = np.arange(3)
    for wanted in ([], ["nll"], ["flow", "difference"]):
        detector.maps = wanted
        scored = detector.score(rows)
        assert {*scored.coarse} == {*wanted} - {"difference"}
        assert {*scored.maps} == {*wanted, "difference"}  # which costs nothing more
    scores = detector.score(rows).components
    assert not [name for name in scores if "_top" in name]  # of no share


@pytest.mark.parametrize(
    ("covariance", "stages", "normalise"),
    [("position", [2, 3], "none"), ("shared", 2, "position"), ("shared", [2, 3], "none")],
)
def test_a_gaussian_is_a_whitening_flow_of_no_steps_to_the_last_bit(
    tiny: TinyStudy, train: Train, covariance: str, stages: Any, normalise: str
) -> None:
    """Whatever the flow of a Gaussian is told: its steps, coupling, noise."""
    tiny.add_stage(3, 5)
    tiny.save()
    changes = {
        "encoder": {"stages": stages},
        "gaussian": {"covariance": covariance},
        "features": {"normalise": normalise},
    }
    asked = changes | {"flow": {"steps": 5, "standardise": "channel", "noise": 0.5}}
    gaussian, flow = (
        train("gaussian", 0, "gaussian", **asked),
        train("flow", 0, "flow", **changes, **WHITEN),
    )
    one, other = (out / "model.safetensors" for out in (gaussian, flow))
    assert one.read_bytes() == other.read_bytes()
    first, facts = score_tiny(tiny.paths(), gaussian, "gaussian", **asked)
    second, others = score_tiny(tiny.paths(), flow, "flow", **changes, **WHITEN)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert facts == others
    assert (gaussian / "gallery.npz").read_bytes() == (flow / "gallery.npz").read_bytes()
    receipt = read_receipt(gaussian / "trained.json").facts
    assert (receipt["best_epoch"], receipt["epochs_run"], receipt["n_train"]) == (None, 0, 12)
    assert (gaussian / "history.csv").read_text() == "epoch,train_loss,val_loss\n"


@pytest.mark.parametrize("covariance", ["position", "shared"])
def test_the_scores_of_a_gaussian_by_numpy(tiny: TinyStudy, train: Train, covariance: str) -> None:
    """Features normalised, mean and covariance of training normals with a ridge, and scipy."""
    changes = {
        "gaussian": {"covariance": covariance, "ridge": 0.05},
        "features": {"normalise": "position"},
    }
    out = train("out", 0, "gaussian", **changes)
    table, _ = score_tiny(tiny.paths(), out, "gaussian", **changes)
    z = tiny.features.astype(np.float64)
    z /= np.sqrt((z**2).mean(axis=3, keepdims=True))
    scored = [number for number, row in enumerate(tiny.rows) if row["split"] != "train"]
    energy, volume = np.empty((len(scored), 4, 4)), np.empty((4, 4))
    for y in range(4):
        for x in range(4):
            normals = z[tiny.prepared.train]
            own = normals.reshape(-1, 6) if covariance == "shared" else normals[:, y, x]
            matrix = np.cov(own.T, bias=True)
            matrix += 0.05 * np.trace(matrix) / 6 * np.eye(6)
            normal = multivariate_normal(own.mean(axis=0), matrix)
            constant = 3 * np.log(2 * np.pi) + np.linalg.slogdet(matrix)[1] / 2
            energy[:, y, x] = (-normal.logpdf(z[scored, y, x]) - constant) / 6
            volume[y, x] = np.linalg.slogdet(matrix)[1] / 2 / 6
    nll = energy.mean((1, 2)) + 0.5 * np.log(2 * np.pi) + volume.mean()
    np.testing.assert_allclose(table["latent_energy"], energy.mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(table["nll"], nll, rtol=1e-4)
    top = np.sort(energy.reshape(len(scored), -1))
    np.testing.assert_allclose(table["local_energy_top_0.25"], top[:, -4:].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(table["local_density_max"], -np.exp(-top[:, -1]), rtol=1e-4)


def test_the_scales_of_several_stages_are_those_of_validation_normals_alone(
    tiny: TinyStudy, train: Train
) -> None:
    """What is not among them changes no scale, whatever it is; one of them does."""
    tiny.add_stage(3, 5)
    tiny.save()
    changes = {"encoder": {"stages": [2, 3]}, "training": {"epochs": 1}}

    def fitted(name: str) -> dict[str, torch.Tensor]:
        tiny.save()
        return load_file(train(name, 0, "flow", **changes) / "model.safetensors")

    before = fitted("before")
    assert {name for name in before if name.startswith("scales.")} == {
        f"scales.{stage}.{of}" for stage in (0, 1) for of in ("mean", "sd")
    }
    for number, row in enumerate(tiny.rows):
        if row["split"] == "test" or (row["split"], row["gt_label"]) == ("validation", 1):
            for features in (tiny.features, tiny.other_features[3]):
                features[number] = 100 + features[number]
    poisoned = fitted("poisoned")
    assert all(torch.equal(poisoned[name], tensor) for name, tensor in before.items())
    tiny.features[tiny.prepared.validation_normals[0]] *= 3
    other = fitted("other")
    assert not torch.equal(other["scales.0.mean"], before["scales.0.mean"])
    assert torch.equal(other["scales.1.mean"], before["scales.1.mean"])


def test_the_scales_are_of_what_validation_normals_score_by_hand(
    tiny: TinyStudy, train: Train
) -> None:
    """Not of training normals, which a Gaussian of few images knows by heart."""
    tiny.add_stage(3, 5)
    tiny.save()
    changes = {"encoder": {"stages": [2, 3]}}
    tensors = load_file(train("out", 0, "gaussian", **changes) / "model.safetensors")
    for number, (stage, channels) in enumerate(((2, 6), (3, 5))):
        z = tiny.cache[str(stage)].astype(np.float64)
        normals, validation = z[tiny.prepared.train], z[tiny.prepared.validation_normals]
        energy = np.empty(validation.shape[:3])
        for y in range(z.shape[1]):
            for x in range(z.shape[2]):
                matrix = np.cov(normals[:, y, x].T, bias=True)
                ridge = tiny_settings().gaussian.ridge
                matrix += ridge * np.trace(matrix) / channels * np.eye(channels)
                delta = validation[:, y, x] - normals[:, y, x].mean(axis=0)
                squared = np.einsum("bi,ij,bj->b", delta, np.linalg.inv(matrix), delta)
                energy[:, y, x] = squared / 2 / channels
        count = len(validation)
        expected = (count * energy.mean(axis=0) + 5 * energy.mean()) / (count + 5)
        np.testing.assert_allclose(tensors[f"scales.{number}.mean"][0], expected, rtol=1e-3)
        variance = (count * energy.var(axis=0) + 5 * energy.var()) / (count + 5)
        np.testing.assert_allclose(tensors[f"scales.{number}.sd"][0], np.sqrt(variance), rtol=1e-3)


def test_a_stage_of_no_weight_is_as_if_it_were_not_there(tiny: TinyStudy, train: Train) -> None:
    """Up to the scale, which of one stage alone is asked for here."""
    tiny.add_stage(3, 5)
    tiny.save()
    found = {}
    for name, stages, weights in (
        ("both", [2, 3], None),
        ("equal", [2, 3], [7.0, 7.0]),
        ("first", [2, 3], [3.0, 0.0]),
        ("alone", [2], None),
    ):
        maps = {"weights": weights, "standardise": "position"}
        changes = {"encoder": {"stages": stages}, "maps": maps}
        out = train(name, 0, "gaussian", **changes)
        found[name], _ = score_tiny(tiny.paths(), out, "gaussian", **changes)
    columns = ["latent_energy", "local_energy_top_0.25", "local_nll_max"]
    for one, other in (("first", "alone"), ("both", "equal")):
        np.testing.assert_allclose(
            found[one][columns], found[other][columns], rtol=1e-4, atol=1e-5
        )
    assert (found["both"]["latent_energy"] - found["alone"]["latent_energy"]).abs().min() > 1e-3


def test_the_loss_of_several_stages_is_the_mean_of_theirs(tiny: TinyStudy) -> None:
    tiny.add_stage(3, 5)
    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    settings = tiny_settings(encoder={"stages": [2, 3]})
    detector, rows = Detector(source, settings, Method.FLOW), np.arange(7)
    expected = []
    with torch.no_grad():
        for flow, z in zip(detector.module.flows, source.features(rows).values(), strict=True):
            latent, log_det = flow(z)
            normal = torch.distributions.Normal(0, 1)
            log_p = normal.log_prob(latent).sum((1, 2, 3)) + log_det.sum((1, 2))
            expected.append(-log_p.mean().item() / z[0].numel())
        loss = next(detector.losses(rows))
    assert loss["loss"].item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert abs(expected[0] - expected[1]) > 0.1


def test_one_pass_of_the_encoder_gives_all_stages_of_a_batch(tiny: TinyStudy, lite0: Path) -> None:
    """Without a cache, in training and in scoring."""
    encoder = load_encoder(lite0, [2, 3])
    calls: list[int] = []
    encoder.body.register_forward_hook(lambda *_: calls.append(1))
    settings = tiny_settings(encoder={"stages": [3]}, decoder={"target": "features"})
    detector = Detector(FeatureSource(tiny.images, CPU, encoder=encoder), settings, Method.AEFLOW)
    next(detector.losses(np.arange(5)))
    assert calls == [1]
    detector.module.eval()
    detector.fit(np.arange(12))  # batches of 5, 5 and 2
    detector.complete(np.arange(12), np.arange(12, 16))
    assert sum(calls) == 1 + 3 + 3
    detector.score(np.arange(5))
    assert sum(calls) == 8


def test_a_residual_is_whitened_on_training_normals_alone(tiny: TinyStudy, train: Train) -> None:
    """And the score is its squared length, against numpy, of the file that was written."""
    tiny.add_stage(3, 5)
    tiny.save()
    changes = {**FEATURES, "gaussian": {"ridge": 0.2}, "training": {"epochs": 2}}
    out = train("out", 0, "aeflow", **changes)
    table, _ = score_tiny(tiny.paths(), out, "aeflow", **changes)
    for number, row in enumerate(tiny.rows):
        if row["split"] == "test" or (row["split"], row["gt_label"]) == ("validation", 1):
            tiny.features[number] = 100 + tiny.features[number]
    original = tiny.features.copy()
    tiny.save()
    poisoned = load_file(train("poisoned", 0, "aeflow", **changes) / "model.safetensors")
    tensors = load_file(out / "model.safetensors")
    assert tensors.keys() == poisoned.keys()
    assert all(torch.equal(poisoned[name], tensor) for name, tensor in tensors.items())

    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    detector = Detector(source, tiny_settings(**changes), Method.AEFLOW)
    detector.module.load_state_dict(tensors)
    rows = np.concatenate([tiny.prepared.train, tiny.prepared.validation_normals])
    z = original[rows].astype(np.float64)
    train_count = len(tiny.prepared.train)
    normals = z[:train_count]
    variance = normals.var(axis=(0, 1, 2))
    sd = np.sqrt(variance + 0.01 * variance.mean())
    target = (z - normals.mean(axis=(0, 1, 2))) / sd
    with torch.no_grad():
        out_of = detector.module.eval()([source.features(rows)[3]])
    residual = target - out_of.reconstruction.permute(0, 2, 3, 1).double().numpy()
    energy = np.empty((4, 4, 4))
    for y in range(4):
        for x in range(4):
            own = residual[:train_count, y, x]
            matrix = np.cov(own.T, bias=True)
            matrix += 0.2 * np.trace(matrix) / 6 * np.eye(6)
            delta = residual[train_count:, y, x] - own.mean(axis=0)
            squared = np.einsum("bi,ij,bj->b", delta, np.linalg.inv(matrix), delta)
            energy[:, y, x] = squared / 12
    validation = table[(table["split"] == "validation") & (table["gt_label"] == 0)]
    np.testing.assert_allclose(validation["residual"], energy.mean((1, 2)), rtol=1e-3)
    top = np.sort(energy.reshape(4, -1))[:, -4:].mean(axis=1)
    np.testing.assert_allclose(validation["residual_top_0.25"], top, rtol=1e-3)


def test_a_flow_alone_is_the_flow_of_aeflow_with_all_weight_on_it(train: Train) -> None:
    """Without gradients from a decoder the flow cannot tell whether there is one."""
    alone = load_file(train("flow", 0, "flow") / "model.safetensors")
    whole = load_file(train("whole", loss={"alpha": 1.0}) / "model.safetensors")
    assert alone.keys() == {name for name in whole if name.startswith("flows.")}
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-6)


def test_the_settings_reach_adam(tiny: TinyStudy) -> None:
    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    changes = {"lr": 0.25, "beta1": 0.5, "weight_decay": 0.125}
    changes |= {"lr_schedule": "cosine", "gradient_clip": 0.01}
    detector = Detector(source, tiny_settings(training=changes), Method.AEFLOW)
    parameters = list(detector.module.parameters())
    assert detector.updates == [Update(parameters, 0.25, (0.5, 0.999), 0.125, True, 0.01)]
    [plain] = Detector(source, tiny_settings(), Method.AEFLOW).updates
    assert plain[1:] == (0.01, (0.9, 0.999), 0.0, False, None)


def test_the_standardisation_is_that_of_the_training_normals(
    tiny: TinyStudy, train: Train
) -> None:
    out = train("out", flow={"steps": 2, "standardise": "channel"})
    values = tiny.features[tiny.prepared.train].astype(float).reshape(-1, 6)
    variance = values.var(axis=0)
    tensors = load_file(out / "model.safetensors")
    mean, log_sd = (
        tensors[f"flows.0.standardisation.{name}"].ravel() for name in ("mean", "log_sd")
    )
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-6)
    # A hundredth of the mean variance is added to each.
    expected = 0.5 * np.log(variance + 0.01 * variance.mean())
    np.testing.assert_allclose(log_sd, expected, atol=1e-6)


def test_bfloat16_runs_and_keeps_likelihoods_in_float32(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = []
    forward = AEFlow.forward
    monkeypatch.setattr(
        AEFlow, "forward", lambda model, z: outputs.append(forward(model, z)) or outputs[-1]
    )
    half, full = (
        pd.read_csv(train(name, training={"precision": name}) / "history.csv")
        for name in ("bfloat16", "float32")
    )
    for out in outputs:
        tensors = (*out.z, *out.log_det, out.reconstruction)
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    half, full = half.iloc[1:], full.iloc[1:]  # epoch 0 trains nothing
    assert (half["train_reconstruction"] != full["train_reconstruction"]).all()
    np.testing.assert_allclose(half["train_flow_nll"], full["train_flow_nll"], rtol=0.02)


def test_under_autocast_log_det_is_that_of_the_map_that_was_applied() -> None:
    """The subnets' bfloat16 output is exact data; what follows must not be rounded again."""
    torch.manual_seed(0)
    (flow,) = tiny_model(flow={"steps": 1}).flows
    z = torch.randn(1, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        out, log_det = flow(z)
        moved, _ = flow(z + torch.nn.functional.pad(torch.ones(1, 3, 4, 4), (0, 0, 0, 0, 3, 0)))
    # b' = b exp(s) + t: raising b by 1 raises b' by exp(s), whatever s and t are.
    scale = (moved - out)[(moved - out) != 0]
    assert scale.numel() == 3 * 4 * 4
    assert log_det.sum().item() == pytest.approx(scale.double().log().sum().item(), abs=2e-4)


def test_a_tanh_decoder_is_trained_in_its_units_and_scored_in_pixels(tiny: TinyStudy) -> None:
    """Its output is in ImageNet's units: scored as it is, a perfect picture would look wrong."""
    source = FeatureSource(tiny.images, CPU, cache=tiny.cache)
    detector = Detector(source, tiny_settings(decoder={"output": "tanh"}), Method.AEFLOW)
    rows = np.arange(4)
    with torch.no_grad():
        raw = detector.module.eval()([source.features(rows)[2]]).reconstruction
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    sd = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    images = torch.from_numpy(tiny.images[rows]).permute(0, 3, 1, 2) / 255
    loss = next(detector.losses(rows))["reconstruction"].item()
    assert loss == pytest.approx(((images - mean) / sd - raw).square().mean().item(), rel=1e-5)
    pixels = (raw * sd + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    scored = detector.score(rows)
    np.testing.assert_allclose(scored.reconstruction, pixels, atol=1e-6)
    mse = np.square(pixels - tiny.images[rows] / 255).mean((1, 2, 3))
    np.testing.assert_allclose(scored.components["mse"], mse, rtol=1e-5)


def test_a_fine_tuned_encoder_is_trained_and_in_the_checkpoint_and_a_frozen_one_is_not(
    tiny: TinyStudy, train: Train, lite0: Path
) -> None:
    pretrained = load_file(lite0)
    np.save(tiny.folder / "features.npy", tiny.cache[:0])  # not cached
    (tiny.folder / "none").write_bytes(lite0.read_bytes())
    for finetune in (False, True):
        encoder = {"name": "lite0", "finetune": finetune}
        changes = {"encoder": encoder, "training": {"epochs": 1}}
        out = train(f"{finetune}", **changes)
        tensors = load_file(out / "model.safetensors")
        prefix = "encoder.body.model."
        saved = {name.removeprefix(prefix): t for name, t in tensors.items() if prefix in name}
        assert bool(saved) == finetune
        assert not any(torch.equal(tensor, pretrained[name]) for name, tensor in saved.items())
        first, again = (score_tiny(tiny.paths(), out, **changes)[0] for _ in range(2))
        pd.testing.assert_frame_equal(first, again)
    assert (tiny.folder / "none").read_bytes() == lite0.read_bytes()


@pytest.mark.parametrize("action", ["fit", "score", "gradient"])
def test_a_job_imports_only_what_it_uses(tiny: TinyStudy, train: Train, action: str) -> None:
    """A second of CPU time for each of these, in every job."""
    tiny.masks = tiny.masks[:0]
    tiny.save()
    out = tiny.folder.parent / "out"
    heavy = ["timm", "torchvision", "torchmetrics", "skimage", "scipy", "sklearn", "anomalib"]
    heavy += ["matplotlib", "torch._dynamo", "torch._inductor", "sympy"]
    code = f"""
import sys
from pathlib import Path
from tests.unit.tiny import fit_tiny, score_tiny
out, *paths = map(Path, sys.argv[1:])
if {action!r} == "fit":
    fit_tiny(paths, out)
else:
    score_tiny(paths, out, {"gradient" if action == "gradient" else "aeflow"!r})
found = {{*{heavy}, *["torch"] * ({action!r} == "gradient")}} & sys.modules.keys()
found |= {{name for name in sys.modules if name.startswith("aeflow.methods.")}}
print(*sorted(found))
"""
    if action == "score":
        train("out")
    command = [sys.executable, "-c", code, str(out), *map(str, tiny.paths())]
    done = subprocess.run(command, capture_output=True, text=True)
    own = "aeflow.methods.gradient" if action == "gradient" else "aeflow.methods.aeflow"
    assert done.stdout.split() == [own, "aeflow.methods.method"], done.stderr


BUILT = [each.name for each in load_study().variants if each.method.fitted]


@pytest.mark.parametrize("variant", BUILT)
def test_the_papers_study_can_be_built_at_its_size(variant: str) -> None:
    """A Gaussian of 256 x 1024 x 1024 numbers would be refused only where it is trained."""
    study = load_study()
    settings, side = study.fit_settings("chest_xray", variant), 256
    assert study.data.image_size == side
    meta = torch.device("meta")  # takes no memory
    channels = {
        "wide_resnet50_2": {2: 512, 3: 1024, 4: 2048},
        "efficientnet_lite0": {2: 40, 3: 112, 4: 320},
    }[settings.encoder.name]
    sides = {stage: side // 2 ** (stage + 1) for stage in channels}
    row = [(str(n), "<f2", (sides[n], sides[n], channels[n])) for n in settings.encoder.stages]
    with meta:
        images = np.empty((0, side, side, 3), np.uint8)
        source = FeatureSource(images, meta, np.empty(0, row))
        module = Detector(source, settings, study.variant(variant).method).module
    assert all(tensor.is_meta for tensor in module.state_dict().values())
