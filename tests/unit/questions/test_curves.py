from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from aeflow.display.figure import STYLE
from aeflow.questions.curves import plot_roc, plot_scores, plot_training
from aeflow.study.cells import Cell
from aeflow.study.study import Study
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
    low, whole = figure.axes
    (line,) = [line for line in whole.lines if line.get_label().startswith("aeflow")]
    marks = [line.get_xydata() for line in whole.lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(marks, [[[0.3, 0.7], [0.3, 0.6]]])

    def direct(cell):
        test = tables[cell][tables[cell]["split"] == "test"]
        fpr, tpr, _ = roc_curve(test["gt_label"], test["score"], drop_intermediate=False)
        return np.interp(np.linspace(0, 1, 401), fpr, tpr)

    seeds = [
        np.mean([direct(Cell("tiles", c, "aeflow", s)) for c in "ab"], axis=0) for s in (1, 0)
    ]
    np.testing.assert_allclose(line.get_ydata(), [0, *np.mean(seeds, axis=0)])
    np.testing.assert_allclose(line.get_xdata(), [0, *np.linspace(0, 1, 401)])
    assert low.get_xlim() == (0, 0.1)
    assert [line.get_label() for line in low.lines[1:2]] == [line.get_label()]
    band = whole.collections[0].get_paths()[0].vertices[:, 1]
    assert 0 <= band.min() < 0.2 < 0.9 < band.max() <= 1
    aurocs = np.mean([[run["image_auroc"]] for run in source.runs()], axis=1).reshape(2, 2).mean(0)
    assert legend_texts(figure) == [
        f"aeflow  {100 * aurocs.mean():.1f} ± {100 * aurocs.std(ddof=1):.1f}"
    ]


def test_roc_has_five_colours_two_bands_and_nothing_is_pushed_out(tmp_path):
    names = [f"variant_with_a_long_name_{index}" for index in range(15)]
    tables = {Cell("tiles", "all", name, 0): score_table(k) for k, name in enumerate(names)}
    source = source_of(tables)
    content = source.study.model_dump()
    content["variants"][0]["label"] = "Ours & yours"
    source.study = Study.model_validate(content)
    with style.context(STYLE):
        drawing = plot_roc(source, "tiles")
    lines = drawing.figure.axes[1].lines
    gray = [line for line in lines if line.get_label() == "10 others"]
    assert len(gray) == 10
    assert {line.get_color() for line in gray} == {"0.7"}
    texts = legend_texts(drawing.figure)
    assert (texts[0][:12], texts[-1], len(texts)) == ("Ours & yours", "10 others", 6)
    assert len(drawing.figure.axes[1].collections) == 2  # of the reference and the highest
    drawing.save(tmp_path / "roc.png")
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
    dots = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert dots
    assert np.isnan([dot.get_xdata() for dot in dots]).all()


CELL = Cell("tiles", "all", "aeflow", 0)
AUROCS = {name: {"test_auroc": auroc} for name, auroc in (("nll", 0.75), ("mse", None))}


def test_each_score_has_its_distribution():
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
    groups = [("test", 0), ("test", 1), ("validation", 0)]
    for axes, name in zip(figure.axes, ["score", "nll", "mse"], strict=True):
        for line, (split, label) in zip(axes.lines, groups, strict=False):
            own = table[(table["split"] == split) & (table["gt_label"] == label)][name]
            median = np.interp(0.5, line.get_ydata(), line.get_xdata())
            assert (own <= median).mean() == pytest.approx(0.5, abs=1 / len(own))
            assert line.get_ydata()[-1] == 1
    assert figure.axes[1].get_xlim()[1] < 100  # one image does not squeeze all others
    threshold = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert threshold[0].get_xdata()[0] == 1.25
    assert len(legend_texts(figure)) == 4
    assert drawing.caption.title == "Scores of tiles, all, aeflow, seed 0"


def test_scores_without_threshold_or_spread():
    table = score_table().assign(mse=1.0)
    source = source_of({CELL: table}, lambda cell: {"components": AUROCS, "threshold": None})
    lines = plot_scores(source, *CELL[:3]).figure.axes[0].lines
    assert ":" not in [line.get_linestyle() for line in lines]


def trained(trainings):
    """What a figure of trainings reads."""
    return SimpleNamespace(trainings=lambda: trainings, study=SimpleNamespace(label=str))


def training(seed, best_epoch, parts=("loss", "flow_nll", "reconstruction")):
    epochs = np.arange(1, 6)
    losses = {
        f"{split}_{part}": (seed + 1) / epochs for split in ("train", "val") for part in parts
    }
    history = pd.DataFrame({"epoch": epochs, **losses})
    return {"seed": seed, "best_epoch": best_epoch, "history": history}


def test_training_curves_mark_the_kept_epoch_of_each_seed():
    source = trained([training(0, 4), training(1, 2)])
    drawing = plot_training(source, "tiles", "all", "aeflow")
    assert titles(drawing.figure)[::2] == ["Loss", "Reconstruction error"]
    assert len(drawing.figure.axes) == 3
    for axes in drawing.figure.axes:
        dots = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"]
        assert [points[0].tolist() for points in dots if len(points)] == [[4, 0.25], [2, 1.0]]
    assert legend_texts(drawing.figure)[:2] == ["seed 0", "seed 1"]
    assert drawing.caption.dataset == "tiles"


def test_a_loss_of_one_part_has_one_panel():
    source = trained([training(0, 1, ("loss", "reconstruction"))])
    figure = plot_training(source, "tiles", "all", "aeflow").figure
    assert titles(figure) == ["Reconstruction error"]


def test_a_fit_in_closed_form_has_no_empty_axes():
    fitted = {**training(0, None), "history": training(0, 1)["history"].iloc[:0]}
    drawing = plot_training(trained([fitted]), "tiles", "all", "gaussian")
    assert "no epochs" in " ".join(text.get_text() for text in drawing.figure.findobj(Text))
    assert drawing.caption.title == "Training of gaussian on tiles, all"
