"""AE-FLOW, its flow alone and its autoencoder alone: parts, settings, and what they import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from aeflow.core.types import FlowScore, Method, ReconstructionScore
from aeflow.encoder.features import FeatureSource
from aeflow.methods.aeflow import Detector
from aeflow.methods.method import Update
from aeflow.models.aeflow import AEFlow
from tests.unit.tiny import TinyStudy, score_tiny, tiny_settings

Train = Callable[..., Path]
FLOW, RECONSTRUCTION = [name.value for name in FlowScore], [n.value for n in ReconstructionScore]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("method", "parts", "columns", "maps", "shown"),
    [
        (
            "aeflow",
            ["loss", "flow_nll", "reconstruction"],
            [*FLOW, *RECONSTRUCTION],
            ["flow", "difference"],
            ["difference_jpeg", "flow_map", "reconstruction_jpeg"],
        ),
        ("flow", ["loss", "flow_nll"], FLOW, ["flow"], ["flow_map"]),
        (
            "autoencoder",
            ["loss", "reconstruction"],
            RECONSTRUCTION,
            ["difference"],
            ["difference_jpeg", "reconstruction_jpeg"],
        ),
    ],
)
def test_a_method_has_its_own_parts_and_no_others(
    tiny: TinyStudy,
    train: Train,
    method: str,
    parts: list[str],
    columns: list[str],
    maps: list[str],
    shown: list[str],
) -> None:
    out = train("out", 0, method)
    history = pd.read_csv(out / "history.csv")
    expected = [f"{when}_{part}" for when in ("train", "val") for part in parts]
    assert list(history.columns) == ["epoch", *expected]
    if method != "aeflow":  # no alpha in it
        assert list(history["train_loss"]) == list(history[f"train_{parts[1]}"])
    table, facts = score_tiny(tiny.paths(), out, method)
    assert list(table.columns[4:]) == columns
    assert list(facts["pixel"]) == maps
    with np.load(out / "gallery.npz") as gallery:
        names = {"flow_map", "difference_jpeg", "reconstruction_jpeg"}
        assert sorted(names & {*gallery.files}) == shown
    tensors = load_file(out / "model.safetensors")
    kinds = {"aeflow": {"flow", "decoder"}, "flow": {"flow"}, "autoencoder": {"decoder"}}[method]
    assert {name.split(".")[0] for name in tensors} == kinds


def test_a_flow_alone_is_the_flow_of_aeflow_with_all_weight_on_it(train: Train) -> None:
    """Without gradients from a decoder the flow cannot tell whether there is one."""
    alone = load_file(train("flow", 0, "flow") / "model.safetensors")
    whole = load_file(train("whole", loss={"alpha": 1.0}) / "model.safetensors")
    assert alone.keys() == {name for name in whole if name.startswith("flow.")}
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-6)


def test_the_settings_reach_adam(tiny: TinyStudy) -> None:
    source = FeatureSource(tiny.images, CPU, cache=tiny.features)
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
    mean, log_sd = (tensors[f"flow.standardisation.{name}"].ravel() for name in ("mean", "log_sd"))
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
    assert {tensor.dtype for out in outputs for tensor in out} == {torch.float32}
    assert (half["train_reconstruction"] != full["train_reconstruction"]).all()
    np.testing.assert_allclose(half["train_flow_nll"], full["train_flow_nll"], rtol=0.02)


def test_under_autocast_log_det_is_that_of_the_map_that_was_applied() -> None:
    """The subnets' bfloat16 output is exact data; what follows must not be rounded again."""
    torch.manual_seed(0)
    flow = AEFlow(6, 4, 8, tiny_settings(flow={"steps": 1}).flow, None).flow
    z = torch.randn(1, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        out, log_det = flow(z)
        moved, _ = flow(z + torch.nn.functional.pad(torch.ones(1, 3, 4, 4), (0, 0, 0, 0, 3, 0)))
    # b' = b exp(s) + t: raising b by 1 raises b' by exp(s), whatever s and t are.
    scale = (moved - out)[(moved - out) != 0]
    assert scale.numel() == 3 * 4 * 4
    assert log_det.item() == pytest.approx(scale.double().log().sum().item(), abs=2e-4)


def test_a_tanh_decoder_is_trained_in_its_units_and_scored_in_pixels(tiny: TinyStudy) -> None:
    """Its output is in ImageNet's units: scored as it is, a perfect picture would look wrong."""
    source = FeatureSource(tiny.images, CPU, cache=tiny.features)
    detector = Detector(source, tiny_settings(decoder={"output": "tanh"}), Method.AEFLOW)
    rows = np.arange(4)
    with torch.no_grad():
        raw = detector.module.eval()(source.features(rows)).reconstruction
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
    np.save(tiny.folder / "features.npy", np.zeros((0, 2, 2, 112), np.float16))  # not cached
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
