"""A whole study of very few images: trained, scored, judged and shown by the real code."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aeflow.core.files import sha256_file
from aeflow.core.receipts import write_receipt
from aeflow.display.figure import Drawing
from aeflow.report import contents
from aeflow.report.page import build_page
from aeflow.study import job as runner
from aeflow.study.cells import RECEIPTS, Cell, jobs_of, path
from aeflow.study.study import Study
from tests.unit.small_results import write_tables
from tests.unit.tiny import SETTINGS, SIDE, TinyStudy

ROOT = Path(__file__).parents[2]
STUDY: dict[str, Any] = {
    "study": "few",
    "seeds": [0, 1],
    "datasets": [{"name": "own", "card": "folder_mvtec", "source": "/nowhere/own"}],
    "data": {"image_size": SIDE},
    "encoder": {"name": "efficientnet_lite0", "stages": 2},
    **SETTINGS,
    "training": SETTINGS["training"] | {"epochs": 2},
    "evaluation": {"bootstrap_replicates": 20},
    "variants": [
        {"name": "aeflow"},
        {"name": "scaled", "settings": {"score": {"scaling": "standardised"}}},
        {"name": "corrected", "settings": {"score": {"correct": "complexity"}}},
        {"name": "gaussian", "method": "gaussian"},
        {"name": "gradient", "method": "gradient"},
        {"name": "ensemble", "method": "fusion", "members": ["aeflow"]},
    ],
    "ablations": [{"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0.0]}],
}


def prepare(study: Study, **counts: int) -> None:
    """Write, below the working folder, what `prepare_images` and `extract_features` would.

    Args:
        counts: of images: train, val_normal, val_anomalous, test_normal, test_anomalous, and
            masks, how many of the last have one.
    """
    masks = counts.get("masks", 0)
    groups = [
        ("train", 0, "good", counts["train"], False),
        ("validation", 0, "good", counts["val_normal"], False),
        ("validation", 1, "hole", counts.get("val_anomalous", 0), False),
        ("test", 0, "good", counts.get("test_normal", 0), False),
        ("test", 1, "hole", masks, True),
        ("test", 1, "crack", counts.get("test_anomalous", 0) - masks, False),
    ]
    given = Cell("own", "all", study.variants[0].name, 0)
    names = ("images", "index", "masks", "features", "weights")
    files = {name: path(study, name, given) for name in names}
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    tiny = TinyStudy(Path("tiny"), groups)
    for name, file in zip(names, tiny.paths(), strict=True):
        files[name].write_bytes(file.read_bytes() if file.exists() else b"none")
    counted = {"train": counts["train"]}  # of the facts, the only ones that a job reads
    for receipt in ("prepared", "prepared_masks", "extracted", "fetched_weights"):
        own = [name for name in names if RECEIPTS[name] == receipt]
        write_receipt(
            path(study, receipt, given),
            made={files[name]: sha256_file(files[name]) for name in own},
            origin={},
            settings={},
            facts={"counts": counted},
        )


def run(study: Study, shown: bool = True) -> None:
    """Run every job from the trainings on; if `shown`, draw every figure and write the page."""
    from scripts.evaluate_scores import evaluate_scores
    from scripts.fuse_scores import fuse_scores
    from scripts.score_images import score_images
    from scripts.train_model import train_model

    steps = {
        step.__name__: step for step in (train_model, score_images, fuse_scores, evaluate_scores)
    }
    study_file = path(study, "study", {})
    study_file.parent.mkdir(parents=True, exist_ok=True)
    study_file.write_text(study.model_dump_json())
    wanted: dict[tuple[str, Any], None] = {}
    for step, given in jobs_of(study):
        if step in steps:
            words = {name: str(given[name]) for name in Cell._fields}
            wanted[step, tuple(words.items())] = None
    order = list(steps)
    for step, words in sorted(wanted, key=lambda job: order.index(job[0])):
        runner._run(steps[step], {"study": str(study_file), **dict(words)})
    write_tables(study)
    if not shown:
        return
    for name, of in contents.figures(study):
        drawing = contents.draw(study, name, of)
        drawing.figure.draw_without_rendering()
        small = Drawing(Figure(figsize=(1, 1)), drawing.caption)  # on the page its picture is all
        small.save(contents.figure_file(study, name, of))
    path(study, "report", {}).write_text(build_page(study))
