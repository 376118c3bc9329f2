"""Start-up: the CPU time of every script that a grid runs often, on a study of next to no work.

The reference is `import torch`. A whole job is measured, from the start of Python to its end.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from aeflow.core.files import sha256_file, write_json, write_text
from aeflow.core.receipts import write_receipt
from aeflow.core.types import INDEX_COLUMNS
from aeflow.study.cells import STEPS, Cell, path
from aeflow.study.study import Study
from benchmarks.measure import Action, Measurement, compare, cpu_seconds, run_python

ROOT = Path(__file__).resolve().parents[1]
OF = ["--dataset", "demo_textures", "--category", "brick", "--seed", "0", "--variant"]
# In an order in which each finds what it reads.
JOBS = {
    "train_model": [*OF, "aeflow"],
    "score_images": [*OF, "aeflow"],
    "score_images, method gradient": [*OF, "gradient"],
    "evaluate_scores": [*OF, "aeflow"],
    "evaluate_scores, method gradient": [*OF, "gradient"],
    "make_table": ["--table", "results"],
    "plot_figure": ["--figure", "training", "--of", "demo_textures+brick+aeflow"],
}


def measure(quick: bool) -> list[Measurement]:
    """Measure each job against an import of torch, its neighbour in time."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_study(folder)
        for job in JOBS:
            run_job(folder, job)()
        return [
            compare(
                f"start-up of {job} (reference: import torch)",
                partial(run_job, folder, job),
                partial(run_python, folder, ["-c", "import torch"]),
                repeats=1 if quick else 7,
                quantity=cpu_seconds,
            )
            for job in JOBS
        ]


def run_job(folder: Path, job: str) -> Action:
    """Return a run of one of `JOBS` in a folder with a study."""
    script = str(ROOT / "scripts" / f"{job.partition(',')[0]}.py")
    study = ["--study", "results/tiny/study.json", "--log", "log"]
    return run_python(folder, [script, *study, *JOBS[job]])


def write_study(folder: Path) -> None:
    """Write a study of one epoch, and its images and features, with their receipts."""
    content = {
        "study": "tiny",
        "datasets": [{"name": "demo_textures", "categories": ["brick"]}],
        "variants": [{"name": "aeflow"}, {"name": "gradient", "method": "gradient"}],
        "seeds": [0],
        "data": {"image_size": 64},
        "encoder": {"name": "efficientnet_lite0"},
        "training": {"epochs": 1, "batch_size": 16, "device": "cpu", "threads": 1},
    }
    study, cell = Study.model_validate(content), Cell("demo_textures", "brick", "aeflow", 0)
    write_json(folder / path(study, "study", {}), study.model_dump(mode="json"))
    for name in ("config", "aeflow", "scripts"):  # cards, and code whose digest a state names
        (folder / name).symlink_to(ROOT / name)
    parts = [("train", 0, 16), ("validation", 0, 8), ("test", 0, 4), ("test", 1, 4)]
    kinds = [(split, label) for split, label, count in parts for _ in range(count)]
    index = pd.DataFrame(kinds, columns=["split", "gt_label"])
    index = index.assign(image_id=index.index, defect="hole", group="", source="", sha256="")
    draw = np.random.default_rng(0)
    arrays = {
        "images": draw.integers(0, 256, (len(index), 64, 64, 3), np.uint8),
        "masks": np.tile(np.eye(64, dtype=np.uint8), (4, 1, 1)),
        "features": np.empty(len(index), [("3", "<f2", (4, 4, 112))]),
    }
    arrays["features"]["3"] = draw.standard_normal((len(index), 4, 4, 112), np.float32)
    write_text(folder / path(study, "index", cell), index[list(INDEX_COLUMNS)].to_csv(index=False))
    write_text(folder / path(study, "weights", cell), "not read where features are cached")
    for name, array in arrays.items():
        file = folder / path(study, name, cell)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    for step in ("prepare_images", "prepare_masks", "extract_features", "fetch_weights"):
        files = [path(study, name, cell) for name in STEPS[step].makes]
        write_receipt(
            folder / path(study, STEPS[step].receipt, cell),
            made={file: sha256_file(folder / file) for file in files},
            origin={},
            settings={},
            facts={"counts": {"train": 16}},
        )
