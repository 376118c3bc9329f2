"""anomalib's methods in a study, and what is said where anomalib is not installed."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.workflow.conftest import TINY, Repository, copy_repository

# With the encoder and without it; of all four, tests/unit/methods/test_peers.py.
METHODS = ["padim", "ganomaly"]
VARIANTS = "".join(f"  - {{name: {name}, method: {name}}}\n" for name in METHODS)


def add_overlay(repository: Repository) -> None:
    """Our peers alone, on one category with one seed."""
    head = TINY.partition("variants:\n")[0]
    overlay = head.replace("study: tiny", "study: peers").replace(
        "{name: demo_textures}", "{name: demo_textures, categories: [brick]}"
    )
    rest = "ablations: []\nseeds: [0]\nevaluation: {bootstrap_replicates: 50}\n"
    (repository.folder / "peers.yaml").write_text(f"{overlay}variants:\n{VARIANTS}{rest}")


@pytest.mark.skipif(
    importlib.util.find_spec("anomalib") is None,
    reason="anomalib is not installed: run `make peers`",
)
def test_they_run_beside_ours(tiny: Repository) -> None:
    add_overlay(tiny)
    cell, table = "demo_textures/brick/padim/seed0", "results/peers/tables/results.csv"
    padim = f"results/peers/metrics/{cell}.json"
    tiny.snakemake(padim, overlay="peers.yaml")
    assert tiny.plan(padim, overlay="peers.yaml") == {}
    # GANomaly reads no features.
    of_one = ("train_model", "score_images", "evaluate_scores", "make_table")
    assert tiny.plan(table, overlay="peers.yaml") == dict.fromkeys(of_one, 1)
    train = json.loads((tiny.results("peers") / f"train/{cell}.json").read_text())
    assert train["versions"]["anomalib"]
    assert min(train["facts"][name] for name in ("fit_seconds", "peak_rss_mib")) > 0
    assert (tiny.results("peers") / f"models/{cell}.safetensors").is_file()
    judged = json.loads((tiny.folder / padim).read_text())["facts"]["variants"]["padim"]
    # A score of the wrong sign would be as far below a half.
    assert 0.65 < judged["image_auroc"] <= 1
    assert judged["pixel_auroc"] is not None


def test_without_anomalib_the_study_is_refused_at_once(tmp_path: Path) -> None:
    repository = Repository(copy_repository(tmp_path))
    add_overlay(repository)
    # Python then finds no such module, wherever it is installed.
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["anomalib"] = None\n')
    command = repository.command("--dry-run", overlay="peers.yaml")
    done = repository.call(*command, check=False)  # a Python of its own
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert "variants[padim].method" in sentence
    assert "make peers" in sentence
    assert repository.plan()["train_model"] == 4  # others need none of it
