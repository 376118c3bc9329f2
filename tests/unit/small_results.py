"""The results of a small study as its jobs would leave them, from scores drawn at random."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.receipts import write_receipt
from aeflow.core.types import Method
from aeflow.display.table import write_table
from aeflow.judging.evaluation import judge_table
from aeflow.report import contents
from aeflow.scoring.combine import fused_table
from aeflow.scoring.complexity import MEASURES
from aeflow.scoring.gallery import as_file, write_gallery
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.cells import Cell, asked, path, reads, score_tables, trainings_of
from aeflow.study.study import Study

STUDY: dict[str, Any] = {
    "study": "small",
    "seeds": [0, 1],
    "datasets": [
        {"name": "chest_xray"},
        {"name": "tiles", "card": "btad", "categories": ["01", "02"]},
    ],
    "variants": [
        {"name": "aeflow"},
        {"name": "flow", "method": "flow", "settings": {"flow": {"steps": 4}}},
        {"name": "gradient", "method": "gradient"},
        {"name": "ensemble", "method": "fusion", "members": ["aeflow"]},
    ],
    "ablations": [
        {"name": "depth", "of": "flow", "key": "flow.steps", "values": [4, 8]},
        {"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0.0, 0.9, 1.0]},
        {"name": "correct", "of": "aeflow", "key": "score.correct", "values": ["complexity"]},
    ],
    "evaluation": {"bootstrap_replicates": 20},
}
STRANGE = "=1|\n<b>"  # breaks a row, a column, a page and a spreadsheet that take it as it is
COMPONENTS = {
    **{"aeflow": ["density", "ssim"], "flow": ["density"]},
    "gradient": ["low_gradient", *MEASURES],
}


def small_study(**changes: Any) -> Study:
    return Study.model_validate(STUDY | changes)


def write_results(study: Study) -> None:
    """Write what the tables and figures of a study are made from, below the working folder."""
    order = {Method.GRADIENT: 0, Method.FUSION: 2}  # what others read first
    for cell in sorted(
        score_tables(study), key=lambda c: order.get(study.variant(c.variant).method, 1)
    ):
        _write_cell(study, cell)


def _write_cell(study: Study, cell: Cell) -> None:
    method, scores = study.variant(cell.variant).method, path(study, "scores", cell)
    if method == Method.FUSION:
        given = cell._asdict()
        members = [read_scores(file) for file in reads(study, "fuse_scores", given)["members"]]
        write_scores(scores, fused_table(members, asked(study, "fuse_scores", given).members))
    else:
        table = _scores(cell, COMPONENTS[method])
        write_scores(scores, table)
        gallery = path(study, "gallery", cell)
        gallery.parent.mkdir(parents=True, exist_ok=True)
        write_gallery(gallery, _gallery(table[table["split"] == "test"]))
    trainings = [_train(study, training) for training in trainings_of(study, cell)]
    _write(study, "scored", cell, None, {"pixel": {}})
    question = asked(study, "evaluate_scores", cell._asdict())
    read = reads(study, "evaluate_scores", cell._asdict())
    facts = judge_table(
        *(read_scores(scores), {}, question),
        **{"n_train": 50, "trainings": trainings},
        statistics=read_scores(read["statistics"]) if "statistics" in read else None,
    )
    _write(study, "metrics", cell, question.as_json(), facts)


def _scores(cell: Cell, components: list[str]) -> pd.DataFrame:
    seed = [cell.seed, *cell.dataset.encode(), *cell.category.encode(), *cell.variant.encode()]
    generator = np.random.default_rng(seed)
    gt_label = np.repeat([0, 1, 0, 1], [15, 10, 15, 20])
    table = pd.DataFrame({"image_id": [f"{cell.category}/{k}" for k in range(60)]})
    table["split"] = np.repeat(["validation", "test"], [25, 35])
    table["gt_label"] = gt_label
    table["defect"] = np.where(gt_label == 0, "good", np.tile(["crack", "NA", STRANGE], 20))
    for name in components:
        table[name] = generator.normal(size=60) + 1.5 * gt_label
    return table


def _gallery(shown: pd.DataFrame) -> dict[str, Any]:
    picture = as_file(np.zeros((8, 8, 3), np.uint8))
    return {
        "image_id": shown["image_id"].to_numpy(dtype=str),
        "image": [picture] * len(shown),
        "mask": [b""] * len(shown),
        "flow_map": np.random.default_rng(0).random((len(shown), 8, 8)),
        "flow_scale": (0.5, 0.9),
    }


def _train(study: Study, cell: Cell) -> dict[str, Any]:
    """Write a training's receipt and history; return its facts."""
    question = asked(study, "train_model", cell._asdict())
    facts = {"fit_seconds": 2.0 + len(cell.variant), "best_epoch": 2, "peak_rss_mib": 100.0}
    facts |= {"n_train": 50}
    _write(study, "trained", cell, question.as_json(), facts | {"device": "cpu"})
    parts = [f"{split}_{part}" for split in ("train", "val") for part in ("loss", "flow_nll")]
    history = pd.DataFrame({"epoch": [1, 2], **{name: [2.0, 1.0] for name in parts}})
    history.to_csv(path(study, "history", cell), index=False)
    return facts


def _write(study: Study, name: str, cell: Cell, settings: Any, facts: dict[str, Any]) -> None:
    file: Path = path(study, name, cell)
    write_receipt(file, made={}, origin={}, settings=settings, facts=facts)


def write_tables(study: Study) -> None:
    """Write the tables of a study, those that others read first."""
    make, waiting = contents.maker(study), list(contents.TABLES.values())
    while waiting:
        table = waiting.pop(0)
        if any(other.name in table.reads for other in waiting):
            waiting.append(table)
            continue
        made = make(table.name)
        files = (path(study, ending, {"table": table.name}) for ending in ("csv", "md", "tex"))
        write_table(made, contents.show(study, table.name, made), *files)
