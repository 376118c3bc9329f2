"""The flow alone and the autoencoder alone: AE-FLOW's parts, from training to the figure."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from aeflow.core.errors import CheckpointError
from aeflow.core.types import FlowScore, Method, ReconstructionScore
from aeflow.judging.evaluation import evaluate_scores
from aeflow.models.losses import total_loss
from aeflow.questions.panels import plot_panels
from aeflow.scoring.gallery import read_gallery
from aeflow.scoring.score_tables import read_scores
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from scripts.score_images import main as score_images_script
from tests.unit.tiny import TinyStudy, tiny_settings

Train = Callable[..., Path]
FLOW, RECONSTRUCTION = [name.value for name in FlowScore], [n.value for n in ReconstructionScore]


def score(tiny: TinyStudy, out: Path, method: str) -> pd.DataFrame:
    """Score with what `train` left in `out`."""
    settings = json.dumps(tiny_settings().model_dump(mode="json"))
    files = {"model": "model.safetensors", "summary": "summary.json", "scores": "scores.csv"}
    files |= {"scored": "scored.json", "gallery": "gallery.npz"}
    paths = [part for name, file in files.items() for part in (f"--{name}", str(out / file))]
    score_images_script(
        ["--method", method, "--settings", settings, "--fpr-limit", "0.3", *tiny.inputs(), *paths]
    )
    return read_scores(out / "scores.csv", out / "scored.json")


@pytest.mark.parametrize(
    ("method", "parts", "columns", "map_", "panels"),
    [
        ("flow", ["loss", "flow_nll"], FLOW, "flow", ["input", "flow map", "overlay"]),
        (
            "autoencoder",
            ["loss", "reconstruction"],
            RECONSTRUCTION,
            "difference",
            ["input", "reconstruction", "difference"],
        ),
    ],
)
def test_a_method_has_its_own_parts_and_no_others(
    tiny: TinyStudy,
    train: Train,
    method: str,
    parts: list[str],
    columns: list[str],
    map_: str,
    panels: list[str],
) -> None:
    out = train("out", method=method)
    history = pd.read_csv(out / "history.csv")
    expected = [f"{when}_{part}" for when in ("train", "val") for part in parts]
    assert list(history.columns) == ["epoch", *expected]
    assert list(history["train_loss"]) == list(history[f"train_{parts[1]}"])  # no alpha in it

    table = score(tiny, out, method)
    assert list(table.columns[4:]) == columns
    pixel = json.loads((out / "scored.json").read_text())["pixel"]
    assert list(pixel) == [map_]
    metrics = evaluate_scores(
        table,
        pixel,
        method=Method(method),
        score=ScoreSettings(),
        threshold=ThresholdSettings(),
        evaluation=EvaluationSettings(bootstrap_replicates=0),
    )
    assert metrics["pixel_auroc"] == pixel[map_]["pixel_auroc"]
    default = "density" if method == "flow" else "ssim"
    assert metrics["image_auroc"] == metrics["components"][default]["test_auroc"]

    run = {"dataset": "d", "category": "all", "variant": method, "seed": 0, "method": method}
    settings = {"settings": {"score": ScoreSettings().model_dump(mode="json")}}
    drawn = plot_panels(read_gallery(out / "gallery.npz"), table, {**metrics, **run, **settings})
    titles = [axes.get_title() for axes in drawn.figure.axes if axes.get_title()]
    assert titles == [*panels, "mask"]
    words = {"Difference:": "difference", "Flow map:": "flow map"}
    for word, panel in words.items():
        assert (word in drawn.caption.text) == (panel in panels)


def test_a_flow_alone_is_the_flow_of_aeflow_with_all_weight_on_it(train: Train) -> None:
    """Without gradients from a decoder the flow cannot tell whether there is one."""
    alone = load_file(train("flow", method="flow") / "model.safetensors")
    whole = load_file(train("whole", loss={"alpha": 1.0}) / "model.safetensors")
    assert alone
    assert alone.keys() == {name for name in whole if name.startswith("flow.")}
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-6)


def test_an_autoencoder_decodes_the_features_themselves(tiny: TinyStudy, train: Train) -> None:
    tensors = load_file(train("out", method="autoencoder") / "model.safetensors")
    assert tensors
    assert all(name.startswith("decoder.") for name in tensors)


def test_a_checkpoint_of_another_method_is_refused(tiny: TinyStudy, train: Train) -> None:
    out = train("out", method="flow")
    with pytest.raises(CheckpointError, match="method: 'flow', not 'autoencoder'"):
        score(tiny, out, "autoencoder")


def test_a_loss_without_parts_is_an_error() -> None:
    with pytest.raises(ValueError, match="L_flow, L_recon or both"):
        total_loss(None, None, 0.5)


def test_the_cosine_schedule_starts_at_lr_and_ends_near_zero(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 normals in batches of 5, 4 epochs: steps at shares 0, 5/12, 10/12, 1, ... of an epoch."""
    rates: list[float] = []
    step = torch.optim.Adam.step

    def noted(optimizer: torch.optim.Adam, *arguments: object) -> object:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    train("out", training={"lr_schedule": "cosine"})
    done = np.array([epoch + images / 12 for epoch in range(4) for images in (0, 5, 10)])
    assert rates == pytest.approx(0.01 * np.cos(np.pi * done / 8) ** 2)
    rates.clear()
    train("constant")
    assert rates == [0.01] * 12
