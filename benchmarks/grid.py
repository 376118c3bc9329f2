"""The grid: what sharing saves of the default study, and how long a large one takes to plan."""

import json
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from aeflow.study.cells import Cell, path, study_cells, table_of
from aeflow.study.defaults import load_study
from aeflow.study.study import Study
from benchmarks.measure import Measurement, seconds

ROOT = Path(__file__).resolve().parents[1]
DATASET = "chest_xray"
LARGE = {
    "study": "large",
    "datasets": [{"name": "demo_textures"}],
    "encoder": {"name": "efficientnet_lite0"},
    "variants": [{"name": "aeflow"}, {"name": "gradient", "method": "gradient"}],
    "seeds": list(range(10)),
}


def measure(quick: bool) -> list[Measurement]:
    """Count the jobs of the default grid against each cell by itself; plan a large one."""
    with chdir(ROOT):
        study = load_study()
        trained = trained_alone(study, DATASET)
        trainings, extractions = shared(study, trained)
    of = f"default grid on {DATASET}"
    return [
        _against(f"{of}: trainings, each scored", trainings, len(trained)),
        _against(f"{of}: extractions", extractions, len(trained)),
        plan(values=2 if quick else 82, repeats=1 if quick else 3),
    ]


def trained_alone(study: Study, dataset: str) -> list[Cell]:
    """Return the cells that train where each runs by itself.

    Not ablations of a score's keys: nobody would train again for those.
    """
    scores = {
        r["variant"]
        for r in study.ablation_rows()
        if any(key.startswith("score.") for key in (r["key"], *r["across"]))
    }
    names = {v.name for v in study.all_variants if v.method.ours} - scores
    return [c for c in study_cells(study) if c.dataset == dataset and c.variant in names]


def shared(study: Study, cells: list[Cell]) -> tuple[int, int]:
    """Return how many trainings and feature extractions the workflow needs for cells."""
    trainings = {table_of(study, cell) for cell in cells}
    return len(trainings), len({path(study, "features", cell) for cell in cells})


def _against(name: str, ours: int, naive: int) -> Measurement:
    return Measurement(name, "jobs", ours, naive, naive / ours)


def plan(values: int, repeats: int) -> Measurement:
    """Measure a dry run of a study of so many values of alpha and ten seeds."""
    alpha = [round(n / 1000, 3) for n in range(1, values + 1)]
    ablation = {"of": "aeflow", "name": "alpha", "key": "loss.alpha", "values": alpha}
    with TemporaryDirectory() as folder:
        overlay = Path(folder, "overlay.json")
        overlay.write_text(json.dumps(LARGE | {"ablations": [ablation]}), encoding="utf-8")
        planned: dict[str, int] = {}
        # The same each time.
        spent = [seconds(lambda: planned.update(planned_jobs(overlay))) for _ in range(repeats)]
        jobs = sum(planned.values()) + 1  # `all`
    return Measurement(f"dry run of {jobs} jobs", "s", median(spent))


def planned_jobs(overlay: Path) -> dict[str, int]:
    """Return rule -> number of jobs of a study of which nothing is there yet."""
    command = ["snakemake", "--dry-run", "--forceall", "--configfile", str(overlay)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    jobs = dict(re.findall(r"^(\w+_\w+) +(\d+) +\S", done.stdout, re.MULTILINE))
    return {rule: int(count) for rule, count in jobs.items()}
