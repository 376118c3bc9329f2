"""The grid: what sharing saves of the default study, and how long a large one takes to plan."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from aeflow.core.schema import load_yaml, validate
from aeflow.study.cards import load_dataset_card
from aeflow.study.settings import DataSettings
from aeflow.study.study import Study
from benchmarks.comparison import Measurement, threads
from benchmarks.quantities import seconds

ROOT = Path(__file__).resolve().parents[1]
DATASET = "chest_xray"
# The jobs that cost something, by the rule that makes them.
RULES = ("extract_features", "train_model", "score_images")
SMALL = {
    "study": "one",
    "datasets": [{"name": "demo_textures", "categories": ["brick"]}],
    "encoder": {"name": "efficientnet_lite0", "stage": 3},
    "variants": [{"name": "aeflow"}],
    "ablations": [],
    "seeds": [0],
}


@dataclass(frozen=True)
class Work:
    """Jobs of a study on one dataset's category. Each training is scored once."""

    extractions: int
    trainings: int


def measure(quick: bool) -> list[Measurement]:
    """Measure the default grid against a run of each cell by itself, and a large dry run."""
    with chdir(ROOT):
        study = load_study(Path("config/config.yaml"))
        shared, alone = planned(study, DATASET), cell_by_cell(study, DATASET)
        brick = images("demo_textures", "brick", study.data)
        chest = images(DATASET, "all", study.data)
    epochs = 1 if quick else 2
    with TemporaryDirectory() as name:
        workspace = copy_workflow(Path(name))
        one = one_job_of_each(workspace, epochs, side=64 if quick else study.data.image_size)
        each = {rule: one[rule] / brick[rule] * chest[rule] for rule in RULES}
        each["train_model"] *= study.training.epochs / epochs
        jobs, dry = dry_run(workspace, values=2 if quick else 82, repeats=1 if quick else 3)
    what = f"default grid on {DATASET}"
    return [
        against(f"{what}: trainings, each scored", "jobs", shared.trainings, alone.trainings),
        against(f"{what}: extractions", "jobs", shared.extractions, alone.extractions),
        against(
            f"{what}: computed from one job of each kind, EfficientNet-Lite0 on the demo",
            "h",
            cost(shared, each) / 3600,
            cost(alone, each) / 3600,
        ),
        Measurement(f"dry run of {jobs} jobs", "s", dry),
    ]


def load_study(overlay: Path) -> Study:
    """Return a study: the defaults and an overlay."""
    content = load_yaml(Path("config/config.default.yaml")) | load_yaml(overlay)
    return validate(Study, content, str(overlay))


def planned(study: Study, dataset: str) -> Work:
    """Return what the workflow does for one category: nothing twice."""
    trained = [
        variant.name
        for variant in study.variants_on(dataset)
        if variant.method.ours and study.trained_as(dataset, variant.name) == variant.name
    ]
    encoders = [study.fit_settings(dataset, name).encoder for name in trained]
    return Work(
        len({(encoder.name, encoder.stage) for encoder in encoders}),
        sum(len(study.seeds_of(name)) for name in trained),
    )


def cell_by_cell(study: Study, dataset: str) -> Work:
    """Return the same for a naive run: every cell extracts, trains and scores."""
    names = [variant.name for variant in study.variants_on(dataset) if variant.method.ours]
    cells = sum(len(study.seeds_of(name)) for name in names)
    return Work(cells, cells)


def images(card: str, category: str, data: DataSettings) -> dict[str, int]:
    """Return how many images a job of each rule handles, by the counts on the card."""
    counts = load_dataset_card(card).counts[category]
    if counts is None:
        raise RuntimeError(f"The card {card} has no counts of {category}.")
    normal = counts.train_normal or 0
    anomalous = min(counts.train_anomalous or 0, data.max_val_anomalous)
    everything = normal + anomalous + (counts.test_normal or 0) + (counts.test_anomalous or 0)
    train = round(normal * (1 - data.val_fraction))
    return dict(zip(RULES, (everything, train, everything - train), strict=True))


def cost(work: Work, each: dict[str, float]) -> float:
    """Return seconds of all jobs, one after the other."""
    per_training = each["train_model"] + each["score_images"]
    return work.extractions * each["extract_features"] + work.trainings * per_training


def against(name: str, unit: str, ours: float, naive: float) -> Measurement:
    """Return a comparison of two sums, which has no range."""
    return Measurement(name, unit, ours, naive, naive / ours)


def copy_workflow(folder: Path) -> Path:
    """Return a folder in which Snakemake runs without touching the repository's results."""
    for name in ("Snakefile", "aeflow", "scripts", "workflow"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", folder / "config")  # a fetch writes a checksum there
    return folder


def one_job_of_each(workspace: Path, epochs: int, side: int) -> dict[str, float]:
    """Run one job of each rule on the demo's brick; return its seconds, start-up included."""
    changed = {"epochs": epochs, "threads": threads(), "device": "cpu"}
    overlay = SMALL | {"training": changed, "data": {"image_size": side}}
    target = "results/one/scores/demo_textures/brick/aeflow/seed0.csv"
    snakemake(workspace, overlay, "--cores", str(threads()), "--", target)
    found = {}
    for rule in RULES:
        (path,) = workspace.glob(f"results/**/benchmarks/{rule}/**/*.tsv")
        with path.open(encoding="utf-8") as file:
            found[rule] = float(next(csv.DictReader(file, delimiter="\t"))["s"])
    return found


def dry_run(workspace: Path, values: int, repeats: int) -> tuple[int, float]:
    """Return the jobs of a study of so many values of alpha and ten seeds, and its planning.

    The time is the median over the repeats, seconds.
    """
    ablation = {"of": "aeflow", "name": "alpha", "key": "loss.alpha"}
    overlay = SMALL | {
        "study": "large",
        "datasets": [{"name": "demo_textures"}],
        "variants": [{"name": "aeflow"}, {"name": "gradient", "method": "gradient"}],
        "ablations": [ablation | {"values": [round(n / 1000, 3) for n in range(1, values + 1)]}],
        "seeds": list(range(10)),
    }
    spent, output = [], ""

    def plan() -> None:
        nonlocal output
        output = snakemake(workspace, overlay, "--dry-run")

    for _ in range(repeats):
        spent.append(seconds(plan))
    total = re.search(r"^total +(\d+)", output, re.MULTILINE)
    if total is None:
        raise RuntimeError(f"No number of jobs in what the dry run says:\n{output}")
    return int(total[1]), median(spent)


def snakemake(workspace: Path, overlay: dict[str, Any], *arguments: str) -> str:
    """Run Snakemake in a workspace; return what it prints."""
    (workspace / "overlay.json").write_text(json.dumps(overlay), encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--configfile", "overlay.json"]
    done = subprocess.run(
        [*command, "--quiet", "rules", *arguments],
        cwd=workspace,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Snakemake failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
