"""Example images: the best, the worst and the borderline cases of one run."""

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.display.figure import ONE_COLUMN, TWO_COLUMNS, Caption, Drawing, nothing_to_draw
from aeflow.questions.source import Source

Array = npt.NDArray[Any]
_COLOURS = matplotlib.colormaps["inferno"]
_BESIDE = 1.0  # inches for what is said beside a row
_TEXT_COLOURS = {NORMAL: "#004C7A", ANOMALOUS: "#9A4200"}  # dark enough for small print
_EXPLAINED = {
    "difference": "Difference: |input − reconstruction|. ",
    "anomaly map": "Anomaly map: higher where the method finds the features less normal; the "
    "overlay lays it over the input. ",
}
_OUTLINE = (("black", 1.6), ("white", 0.8))  # seen on dark and on light
_OVERLAY = 0.6  # opacity of the overlay where the map is highest


def choose_cases(
    gt_label: Array, pred_score: Array, threshold: float | None
) -> list[tuple[int, str]]:
    """Choose an image of every kind, none twice; return index and kind of each.

    Kinds, in order: anomalies with the highest and the lowest scores, normals with the highest
    and the lowest scores, then whatever lies nearest the threshold, if there is one.
    """
    anomalous, normal = np.flatnonzero(gt_label == ANOMALOUS), np.flatnonzero(gt_label == NORMAL)
    everything = np.arange(len(gt_label))
    kinds = [
        ("anomaly, highest score", anomalous, -pred_score),
        ("anomaly, lowest score", anomalous, pred_score),
        ("normal, highest score", normal, -pred_score),
        ("normal, lowest score", normal, pred_score),
    ]
    if threshold is not None:
        kinds.append(("nearest the threshold", everything, abs(pred_score - threshold)))
    cases: dict[int, str] = {}
    for why, members, order in kinds:
        left = np.setdiff1d(members, list(cases))
        cases |= dict.fromkeys(left[np.argsort(order[left], kind="stable")][:1].tolist(), why)
    return list(cases.items())


def plot_panels(source: Source, dataset: str, category: str, variant: str) -> Drawing:
    """Draw input, reconstruction, difference, anomaly map and overlay of chosen cases.

    They are the first seed's. What the method does not make (a flow alone reconstructs nothing)
    has no column. A line on the overlay, or else on the input, surrounds the known defect.

    Raises:
        DataError: the gallery lacks an image of the score table.
    """
    (cell,), (run,) = source.cells, source.runs()
    threshold = run["threshold"]
    title = f"Example images of {dataset}, {category}, {source.study.label(variant)}, "
    title += f"seed {cell.seed}"
    test = source.predictions(Split.TEST).get(dataset, {}).get(variant, {}).get(category)
    if test is None:
        return nothing_to_draw(dataset, title, str(run["reasons"]["image_auroc"]))
    gt_label, pred_score = test.labelled[0], test.score[:, 0]
    cases = choose_cases(gt_label, pred_score, threshold)
    if not cases:
        return nothing_to_draw(dataset, title, "There are no test images to show.")
    images = test.images.iloc[[row for row, _ in cases]].reset_index(drop=True)
    gallery = source.gallery(cell, images["image_id"].tolist())
    judged = f"{source.study.map_of(dataset, variant)}_map"
    maps = {"difference": gallery.get("difference"), "anomaly map": gallery.get(judged)}
    shown = {title: values for title, values in maps.items() if values is not None}
    scales = {title: _scale_of(values) for title, values in shown.items()}
    titles = ["input"]
    titles += ["reconstruction", "difference"] if "difference" in shown else []
    titles += ["anomaly map", "overlay"] if "anomaly map" in shown else []
    width = ONE_COLUMN if len(titles) < 4 else TWO_COLUMNS
    side = (width - _BESIDE) / len(titles)
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(figsize=(width, side * len(cases) + 0.5), layout=tight)
    grid = figure.subplots(len(cases), len(titles), squeeze=False)
    for index, (axes, (row, why)) in enumerate(zip(grid, cases, strict=True)):
        _draw_row(dict(zip(titles, axes, strict=True)), gallery, shown, index, scales)
        score = f"{pred_score[row]:.4g}"
        if threshold is not None:
            score += f" {'≥' if pred_score[row] >= threshold else '<'} {threshold:.4g}"
        known = images["image_id"][index].rsplit("/", 1)[-1], images["defect"][index]
        name, defect = (text if len(text) <= 18 else f"{text[:8]}…{text[-9:]}" for text in known)
        label = "\n".join([why.replace(", ", ",\n"), defect, name, score.replace("-", "−")])
        look: dict[str, Any] = {"color": _TEXT_COLOURS[int(gt_label[row])]}
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=6, **look)
    for axes, name in zip(grid[0], titles, strict=True):
        axes.set_title(name, loc="center")
    for name, scale in scales.items():
        column = titles.index(name)
        below = grid[-1, column].inset_axes((0.08, -0.12, 0.84, 0.06))
        bar = figure.colorbar(ScalarMappable(scale, _COLOURS), below, orientation="horizontal")
        bar.locator = MaxNLocator(2)  # a column has no space for three of five signs
        bar.ax.tick_params(labelsize=6, pad=1)
    outlined = "White line: the known defect. " if gallery["has_mask"].any() else ""
    text = "".join(_EXPLAINED[name] for name in scales) + (
        f"{outlined}One scale for all rows. Chosen by score, one of each kind; beside it the "
        "score and the threshold: at or above it an image is called anomalous."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _scale_of(maps: Array) -> Normalize:
    """Return one scale for maps beside each other; the 0.5 % at either end of it saturate."""
    low, high = np.percentile(maps.astype(np.float64), [0.5, 99.5])
    return Normalize(low, high if high > low else low + 1, clip=True)


def _overlaid(image: Array, anomaly_map: Array, scale: Normalize) -> Array:
    """Return an image (H, W, 3) of bytes under its map (H, W), in [0, 1]."""
    heat = np.asarray(scale(anomaly_map.astype(np.float64)))
    opacity = _OVERLAY * heat[..., None]
    overlay: Array = (1 - opacity) * image / 255 + opacity * _COLOURS(heat)[..., :3]
    return overlay


def _draw_row(
    panels: dict[str, Axes],
    gallery: dict[str, Array],
    maps: dict[str, Array],
    index: int,
    scales: dict[str, Normalize],
) -> None:
    image = gallery["image"][index]
    panels["input"].imshow(image)
    if "reconstruction" in panels:
        panels["reconstruction"].imshow(gallery["reconstruction"][index])
    for name, scale in scales.items():
        values = maps[name][index].astype(np.float64)
        panels[name].imshow(values, cmap=_COLOURS, norm=scale)
    if "overlay" in panels:
        panels["overlay"].imshow(
            _overlaid(image, maps["anomaly map"][index], scales["anomaly map"])
        )
    mask = gallery["mask"][index]
    if gallery["has_mask"][index] and mask.any():
        # Of the padded mask: a defect at the border is surrounded too.
        around, places = np.pad(mask, 1), np.arange(-1, len(mask) + 1)
        for colour, width in _OUTLINE:
            look: dict[str, Any] = {"colors": colour, "linewidths": width}
            panels.get("overlay", panels["input"]).contour(places, places, around, [0.5], **look)
    for axes in panels.values():
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
