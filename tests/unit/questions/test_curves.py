from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from aeflow.display.figure import STYLE
from aeflow.questions.curves import plot_roc, plot_scores, plot_training
from aeflow.study.cells import Cell
from tests.unit.questions.memory import FigureMemory, make_run


def score_table(seed=0, n=120):
    """A third of the images validation, three fifths normal; anomalies score higher."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame({"image_id": [f"{index:03d}" for index in range(n)]})
    table["split"] = np.where(np.arange(n) % 3, "test", "validation")
    table["gt_label"] = np.arange(n) % 5 // 3
    table["defect"] = np.where(table["gt_label"] == 1, "crack", "good")
    for name in ("nll", "mse", "score"):
        table[name] = generator.normal(size=n) + table["gt_label"]
    return table


def source_of(tables, changes=lambda cell: {}):
    runs = []
    for cell, table in tables.items():
        test = table[table["split"] == "test"]
        known = test["gt_label"].any()
        auroc = roc_auc_score(test["gt_label"], test["score"]) if known else None
        runs.append(make_run(**cell._asdict(), image_auroc=auroc, specificity=0.7) | changes(cell))
    return FigureMemory(*runs, scores=list(tables.values()))


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_roc_of_two_seeds_and_two_categories():
    cells = [Cell("tiles", category, "aeflow", seed) for category in "ab" for seed in (1, 0)]
    tables = {cell: score_table(number) for number, cell in enumerate(cells)}
    sensitivity = {"a": 0.5, "b": 0.7}
    source = source_of(
        tables, lambda cell: {"sensitivity": sensitivity[cell.category] + cell.seed / 10}
    )
    figure = plot_roc(source, "tiles").figure
    lines = figure.axes[0].lines
    (thick,) = [line for line in lines if line.get_label().startswith("aeflow")]
    thin = [line for line in lines if line.get_linewidth() < 0.7]
    dots = [line.get_xydata()[0] for line in lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [[0.3, 0.7], [0.3, 0.6]])

    def direct(cell):
        test = tables[cell][tables[cell]["split"] == "test"]
        fpr, tpr, _ = roc_curve(test["gt_label"], test["score"], drop_intermediate=False)
        return np.interp(np.linspace(0, 1, 401), fpr, tpr)

    seeds = [
        np.mean([direct(Cell("tiles", c, "aeflow", s)) for c in "ab"], axis=0) for s in (1, 0)
    ]
    for line, expected in zip([*thin, thick], [*seeds, np.mean(seeds, axis=0)], strict=True):
        np.testing.assert_allclose(line.get_ydata(), [0, *expected])
        np.testing.assert_allclose(line.get_xdata(), [0, *np.linspace(0, 1, 401)])
    aurocs = np.mean([[run["image_auroc"]] for run in source.runs()], axis=1).reshape(2, 2).mean(0)
    assert legend_texts(figure) == [
        f"aeflow  {100 * aurocs.mean():.1f} ± {100 * aurocs.std(ddof=1):.1f}"
    ]


def test_roc_lines_of_many_variants_differ_and_nothing_is_pushed_out(tmp_path):
    names = [f"variant_with_a_long_name_{index}" for index in range(15)]
    source = source_of({Cell("tiles", "all", name, 0): score_table() for name in names})
    with style.context(STYLE):
        drawing = plot_roc(source, "tiles")
    lines = [line for line in drawing.figure.axes[0].lines if line.get_label().startswith("v")]
    assert len({(to_rgba(line.get_color()), line.get_linestyle()) for line in lines}) == 15
    drawing.save(tmp_path / "roc.png", tmp_path / "roc.svg")
    pixels = np.asarray(Image.open(tmp_path / "roc.png").convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


def test_roc_of_one_class_says_so():
    normals = score_table()[lambda table: table["gt_label"] == 0]
    first, second = Cell("tiles", "all", "aeflow", 0), Cell("tiles", "all", "flow", 0)
    figure = plot_roc(source_of({first: normals}), "tiles").figure
    assert not figure.legends
    assert "not of both classes" in figure.texts[0].get_text()
    parts = {
        Cell("tiles", "a", "aeflow", 0): normals,
        Cell("tiles", "b", "aeflow", 0): score_table(),
    }
    figure = plot_roc(source_of(parts), "tiles").figure
    assert legend_texts(figure) == ["aeflow"], "a mean over one of two categories is no mean"
    # Beside a variant that has a curve it is left out, and so is a threshold that there is not.
    tables = {first: normals, second: score_table()}
    source = source_of(tables, lambda cell: {"specificity": None, "image_auroc": 0.8})
    figure = plot_roc(source, "tiles").figure
    assert legend_texts(figure) == ["flow  80.0"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert np.isnan([dot.get_xdata() for dot in dots]).all()


CELL = Cell("tiles", "all", "aeflow", 0)
AUROCS = {name: {"test_auroc": auroc} for name, auroc in (("nll", 0.75), ("mse", None))}


def test_score_histograms():
    table = score_table()
    table["score"] *= 10
    table.loc[1, "nll"] = 100
    source = source_of({CELL: table}, lambda cell: {"components": AUROCS, "image_auroc": 0.8})
    drawing = plot_scores(source, *CELL[:3])
    figure = drawing.figure
    names = ["combined score", "nll", "mse"]
    aurocs = ["80.0 %", "75.0 %", "not known"]
    expected = [f"{name}\nAUROC {auroc}" for name, auroc in zip(names, aurocs, strict=True)]
    assert titles(figure) == expected
    groups = {"test": (0, 1), "validation": (0,)}
    for axes, name in zip(figure.axes, ["score", "nll", "mse"], strict=True):
        counts = [
            table[(table["split"] == split) & (table["gt_label"] == label)]
            for split, labels in groups.items()
            for label in labels
        ]
        for bars, own in zip(axes.containers, counts, strict=False):
            heights = np.array([bar.get_height() for bar in bars])
            assert heights.sum() == pytest.approx(1)  # outliers are counted too
            edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
            inside = np.clip(own[name], edges[0], edges[-1])
            np.testing.assert_allclose(heights, np.histogram(inside, edges)[0] / len(own))
    threshold = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert threshold[0].get_xdata()[0] == 1.25
    assert len(legend_texts(figure)) == 4
    assert drawing.caption.title == "Scores of tiles, all, aeflow, seed 0"


def test_scores_without_threshold_or_spread():
    table = score_table().assign(mse=1.0)
    source = source_of({CELL: table}, lambda cell: {"components": AUROCS, "threshold": None})
    assert not plot_scores(source, *CELL[:3]).figure.axes[0].lines


def training(seed, best_epoch, parts=("loss", "flow_nll", "reconstruction")):
    epochs = np.arange(1, 6)
    losses = {
        f"{split}_{part}": (seed + 1) / epochs for split in ("train", "val") for part in parts
    }
    history = pd.DataFrame({"epoch": epochs, **losses})
    return {"seed": seed, "best_epoch": best_epoch, "history": history}


def test_training_curves_mark_the_kept_epoch_of_each_seed():
    source = SimpleNamespace(trainings=lambda: [training(0, 4), training(1, 2)])
    drawing = plot_training(source, "tiles", "all", "aeflow")
    assert titles(drawing.figure)[::2] == ["Loss", "Reconstruction error"]
    assert len(drawing.figure.axes) == 3
    for axes in drawing.figure.axes:
        dots = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
        assert [points[0].tolist() for points in dots if len(points)] == [[4, 0.25], [2, 1.0]]
    assert legend_texts(drawing.figure)[:2] == ["seed 0", "seed 1"]
    assert drawing.caption.dataset == "tiles"


def test_a_part_that_a_variant_lacks_has_no_panel():
    source = SimpleNamespace(trainings=lambda: [training(0, 1, ("loss", "reconstruction"))])
    figure = plot_training(source, "tiles", "all", "aeflow").figure
    assert titles(figure) == ["Loss", "Reconstruction error"]


def test_a_fit_in_closed_form_has_no_empty_axes():
    fitted = {**training(0, None), "history": training(0, 1)["history"].iloc[:0]}
    drawing = plot_training(
        SimpleNamespace(trainings=lambda: [fitted]), "tiles", "all", "gaussian"
    )
    assert "no epochs" in " ".join(text.get_text() for text in drawing.figure.findobj(Text))
    assert drawing.caption.title == "Training of gaussian on tiles, all"
