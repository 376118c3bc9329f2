"""The page of all test images of a study: pictures, scores, thresholds and verdicts."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import AnomalyMap, Method, Split
from aeflow.display.browse import (
    CHUNK,
    COLOURS,
    Cell,
    Group,
    Page,
    heat,
    write_page,
    write_pictures,
)
from aeflow.judging.thresholds import fit_threshold
from aeflow.questions.source import Run, Source
from aeflow.report.contents import BROWSE, Missing
from aeflow.scoring.combine import score_parts
from aeflow.scoring.gallery import MAP_SIDE, as_array, read_gallery, shrink
from aeflow.scoring.score_tables import read_scores
from aeflow.study import cells
from aeflow.study.study import Study

Gallery = Mapping[str, Any]


def write_browse(study: Study, page: Path, folder: Path, missing: Missing | None = None) -> None:
    """Write the page and the folder with what it shows of the named variants.

    Args:
        missing: of an incomplete study, the cells without a result and why: they are left out and
            named.

    Raises:
        DataError: a file is missing, or belongs to other images.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)  # also where there is no picture
    own = BROWSE.cells(study, "")
    source = Source(study, BROWSE.reads, own, missing)
    shown = Page(
        title=f"Test images of {study.study}",
        about=f"Variants {', '.join(map(study.label, study.named))}. Thresholds are fitted on "
        "validation images; an image with a score at or above the threshold is called anomalous. "
        f"{COLOURS} Confusion matrix: rows are the truth.",
        id="image_id",
        noun="Variant",
        absent="Pictures of this page are not here: run `dvc pull "
        f"{folder.as_posix()}`, or `snakemake --forcerun build_browse` where the study is.",
    )
    read = cache(read_scores)  # variants that share a training share its table
    written: set[str] = set()
    unseen = [entry.name for entry in study.datasets if not entry.pictures]
    shown.lacking += [f"{name}: the study says `pictures: false`" for name in unseen]
    for cell in own:
        try:
            if cell in source.missing:
                raise DataError(source.missing[cell])
            _add(shown, folder, study, cell, source.metrics_of(cell), read, written)
        except DataError as error:
            if missing is None:
                raise
            shown.lacking.append(f"{cells.CELL.format(**cell._asdict())}: {error}")
    write_page(page, folder, shown)


def _add(
    page: Page,
    folder: Path,
    study: Study,
    cell: cells.Cell,
    run: Run,
    read: Callable[[Path], pd.DataFrame],
    written: set[str],
) -> None:
    """Add a cell to a page, its category if it is the first there, and write their pictures.

    Args:
        run: what is known of the cell.
        read: reads a score table.
        written: names of the pictures that are there.
    """
    own = cells.table_of(study, cell)
    scores = cells.path(study, "scores", own)
    table = read(scores)
    test = table[table["split"] == Split.TEST]
    names = test["image_id"].tolist()
    try:
        content = _content(study, cell, table, run, read)
    except DataError as error:  # the others must not wait until its settings are mended
        page.lacking.append(f"{cells.CELL.format(**cell._asdict())}: {error}")
        return
    pictures, kinds, gallery = "", list[str](), None
    judged = study.map_of(cell.dataset, cell.variant)
    if study.variant(cell.variant).has_gallery:
        gallery = read_gallery(cells.path(study, "gallery", own))
        if list(gallery["image_id"]) != names:
            raise DataError(
                f"{cells.path(study, 'gallery', own)} has other test images than its score table: "
                "score them again."
            )
    known = [(each.dataset, each.category) for each in page.groups]
    if cell[:2] not in known:
        page.groups.append(_group(len(known), cell.dataset, cell.category, test))
        known.append(cell[:2])
    number = known.index(cell[:2])
    group = page.groups[number]
    if group.content["image_id"] != names:
        raise DataError(f"{scores} has other test images than other variants: score them again.")
    if gallery is not None:
        if not group.shows:
            _write_own(folder, group, gallery)
        kinds = _kinds(gallery, judged)
        place = [variant.name for variant in study.all_variants].index(own.variant)
        pictures = f"{group.pictures}-{place}-{own.seed}-{judged}"
        if pictures not in written:
            _write_maps(folder, pictures, group, gallery, judged, kinds)
        written.add(pictures)
    several = len(study.seeds_of(cell.variant)) > 1
    label = study.label(cell.variant) + (f", seed {cell.seed}" if several else "")
    page.cells.append(Cell(number, cell.variant, cell.seed, label, pictures, kinds, content))


def _group(number: int, dataset: str, category: str, test: pd.DataFrame) -> Group:
    content = {
        "image_id": test["image_id"].tolist(),
        "gt_label": test["gt_label"].tolist(),
        "defect": test["defect"].tolist(),
    }
    chunks = list(range(0, len(test), CHUNK))
    return Group(dataset, category, f"images{number}", [], chunks, content)


def _content(
    study: Study,
    cell: cells.Cell,
    table: pd.DataFrame,
    run: Run,
    read: Callable[[Path], pd.DataFrame],
) -> dict[str, Any]:
    """Return `Cell.content`; DataError: the variant has no score."""
    method, settings = study.variant(cell.variant).method, study.cell(cell.dataset, cell.variant)
    score, statistics = settings.score, None
    if score.correct != "none":
        statistics = read(cells.path(study, "scores", cells.statistics_of(study, cell)))
    parts = score_parts(table, method, score, statistics)
    test = (table["split"] == Split.TEST).to_numpy()
    labels, beta, thresholds = table["gt_label"].to_numpy(int)[~test], None, None
    if method == Method.AEFLOW:
        with suppress(DataError):  # a part of weight 0 is not read, and need not be there
            even = score.model_copy(update={"beta": 0.5})
            parts = score_parts(table, method, even, statistics)
            (_, flow), (_, reconstruction) = parts
            beta, thresholds = score.beta, []
            for percent in range(101):
                share = percent / 100
                known = (share * flow + (1 - share) * reconstruction)[~test]
                thresholds.append(fit_threshold(labels, known, settings.threshold).value)
    return {
        "test": [values[test].tolist() for _, values in parts],
        "validation": [values[~test].tolist() for _, values in parts],
        "labels": labels.tolist(),
        "beta": beta,
        "threshold": run["threshold"],
        "reason": run["reasons"].get("threshold"),
        "thresholds": thresholds,
    }


def _kinds(gallery: Gallery, judged: str | None) -> list[str]:
    # Without validation normals nobody knows what is usual.
    found = ["map"] if f"{judged}_scale" in gallery else []
    return found + (["reconstruction"] if "reconstruction" in gallery else [])


def _write_own(folder: Path, group: Group, gallery: Gallery) -> None:
    """Write the pictures of the images and masks of a group."""
    group.shows = ["image", *(["mask"] if any(gallery["mask"]) else [])]
    for first in group.chunks:
        files = {kind: gallery[kind][first : first + CHUNK] for kind in group.shows}
        write_pictures(folder, group.pictures, first, files)


def _write_maps(
    folder: Path,
    name: str,
    group: Group,
    gallery: Gallery,
    judged: str | None,
    kinds: list[str],
) -> None:
    """Write the maps and reconstructions of a cell."""
    maps: list[Any] = []
    if "map" in kinds and judged == AnomalyMap.DIFFERENCE:
        files = gallery["difference"]
        maps = [
            shrink(as_array(file)[None].astype(np.float32) / 255, MAP_SIDE)[0] for file in files
        ]
    elif "map" in kinds:
        maps = list(gallery[f"{judged}_map"].astype(np.float32))
    low, high = gallery[f"{judged}_scale"].tolist() if maps else (0.0, 1.0)
    for first in group.chunks if kinds else ():
        rows = slice(first, first + CHUNK)
        files = {"map": [heat(each, (low, high)) for each in maps[rows]]} if "map" in kinds else {}
        if "reconstruction" in kinds:
            files["reconstruction"] = gallery["reconstruction"][rows]
        write_pictures(folder, name, first, files)
