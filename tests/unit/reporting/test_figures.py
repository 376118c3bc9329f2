import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.types import Method
from aeflow.display.figure import Caption, Drawing, read_caption
from aeflow.judging.evaluation import combined_score
from aeflow.questions.curves import plot_roc, plot_scores, plot_training
from aeflow.scoring.combine import pred_score
from aeflow.study.settings import ScoreSettings


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def noisy_run(make_run, generator, **changes):
    gt_label = np.repeat([0, 1], [80, 120])
    values = generator.normal(size=200) + gt_label
    fpr, tpr, _ = roc_curve(gt_label, values)
    auroc = roc_auc_score(gt_label, values)
    return make_run(image_auroc=auroc, roc={"fpr": [*fpr], "tpr": [*tpr]}, **changes)


def test_roc_of_two_seeds_and_two_categories(make_run):
    generator = np.random.default_rng(0)
    runs = [
        noisy_run(
            make_run, generator, category=c, seed=s, specificity=0.7, sensitivity=0.5 + s / 10 + t
        )
        for c, t in (("a", 0.0), ("b", 0.2))
        for s in (0, 1)
    ]
    figure = plot_roc(runs).figure
    lines = figure.axes[0].lines
    thick = next(line for line in lines if line.get_label().startswith("aeflow"))
    aurocs = np.array([run["image_auroc"] for run in runs]).reshape(2, 2).mean(axis=0)
    expected = f"aeflow  {100 * aurocs.mean():.1f} ± {100 * aurocs.std(ddof=1):.1f}"
    assert legend_texts(figure) == [expected]
    # Vertical averaging keeps the area: the curve's own is the mean of the four.
    assert np.trapezoid(thick.get_ydata(), thick.get_xdata()) == pytest.approx(
        aurocs.mean(), abs=0.003
    )
    dots = [line.get_xydata()[0] for line in lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [[0.3, 0.6], [0.3, 0.7]])
    thin = [line for line in lines if line.get_linewidth() < 0.7]
    assert len(thin) == 2


def test_the_legend_pushes_nothing_out_of_the_figure(make_run, tmp_path):
    runs = [make_run(variant="aeflow_difference", seed=seed) for seed in (0, 1)]
    plot_roc(runs).save(tmp_path / "roc.png", tmp_path / "roc.svg")
    pixels = np.asarray(Image.open(tmp_path / "roc.png").convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


def test_roc_lines_of_many_variants_differ(make_run):
    runs = [make_run(variant=f"v{index}") for index in range(15)]
    lines = [
        line for line in plot_roc(runs).figure.axes[0].lines if line.get_label().startswith("v")
    ]
    looks = {(to_rgba(line.get_color()), line.get_linestyle()) for line in lines}
    assert len(looks) == 15


def test_roc_of_one_class_says_so(make_run):
    empty = make_run(image_auroc=None, roc={"fpr": [], "tpr": []})
    figure = plot_roc([empty]).figure
    assert not figure.legends
    assert "one class" in figure.axes[0].texts[0].get_text()
    # Beside a run that has a curve it is left out.
    assert legend_texts(plot_roc([empty, make_run(variant="flow")]).figure) == ["flow  80.0"]


def test_score_histograms(scores, scored_run):
    figure = plot_scores(scores, scored_run).figure
    names, aurocs = zip(*(title.split("\n") for title in titles(figure)), strict=True)
    assert names == ("combined score", "density", "nll", "ssim", "mse")
    assert aurocs[0] == f"AUROC {100 * scored_run['image_auroc']:.1f} %"
    assert aurocs[3] == f"AUROC {100 * scored_run['components']['ssim']['test_auroc']:.1f} %"
    for axes in figure.axes:
        filled = [sum(bar.get_height() for bar in bars) for bars in axes.containers[:2]]
        np.testing.assert_allclose(filled, 1)  # outliers are counted too
    threshold = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert threshold[0].get_xdata()[0] == scored_run["threshold"]
    assert len(legend_texts(figure)) == 4


def test_the_combined_score_is_the_one_the_threshold_was_fitted_to(scores, scored_run):
    expected = pred_score(scores, Method.AEFLOW, ScoreSettings(scaling="standardised"))
    np.testing.assert_array_equal(combined_score(scores, scored_run), expected)
    with pytest.raises(ConfigError, match="score"):
        combined_score(scores, scored_run | {"settings": {"score": {"betta": 1}}})


def test_scores_without_threshold_or_spread(scores, scored_run):
    scores["mse"] = 1.0
    run = scored_run | {"threshold": None, "image_auroc": None}
    figure = plot_scores(scores, run).figure
    assert not figure.axes[0].lines
    assert titles(figure)[0] == "combined score\nAUROC not known"


def training(seed, best_epoch):
    run = {"dataset": "tiles", "category": "all", "variant": "flow"}
    return run | {"seed": seed, "best_epoch": best_epoch}


def history(scale):
    epochs = np.arange(1, 6)
    parts = ("loss", "flow_nll", "reconstruction")
    columns = {f"{split}_{part}": scale / epochs for split in ("train", "val") for part in parts}
    return pd.DataFrame({"epoch": epochs, **columns})


def test_training_curves_mark_the_kept_epoch_of_each_seed():
    illustration = plot_training([history(1.0), history(2.0)], [training(0, 4), training(1, 2)])
    panels = illustration.figure.axes
    assert titles(illustration.figure)[::2] == ["Loss", "Reconstruction error"]
    assert len(panels) == 3
    for axes in panels:
        dots = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
        dots = [points[0].tolist() for points in dots if len(points)]
        assert dots == [[4, 0.25], [2, 1.0]]
    assert legend_texts(illustration.figure)[:2] == ["seed 0", "seed 1"]
    assert illustration.caption.dataset == "tiles"


def test_a_part_that_a_variant_lacks_has_no_panel():
    table = history(1.0).drop(columns=["train_flow_nll", "val_flow_nll"])
    figure = plot_training([table], [training(0, 1)]).figure
    assert titles(figure) == ["Loss", "Reconstruction error"]


def test_files_keep_their_caption_and_are_the_same_each_time(tmp_path, scores, scored_run):
    for name in ("first", "second"):
        illustration = plot_scores(scores, scored_run)
        illustration.save(tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    assert illustration.caption.dataset == "tiles"
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert read_caption(first) == illustration.caption
        assert b"date>" not in first.read_bytes()  # it would differ tomorrow


def test_captions_survive_any_letter(tmp_path):
    caption = Caption("btad", "ROC of 01 & <02>", "Sensitivity ≥ 0.9 — “all”.")
    illustration = Drawing(Figure(), caption)
    illustration.save(tmp_path / "x.png", tmp_path / "x.svg")
    assert read_caption(tmp_path / "x.png") == caption
    assert read_caption(tmp_path / "x.svg") == caption


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_broken_figures_are_named(tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    with pytest.raises(DataError, match="is missing"):
        read_caption(path)
    path.write_text("<svg")
    with pytest.raises(DataError, match="no complete figure"):
        read_caption(path)
    Figure().savefig(path)
    with pytest.raises(DataError, match="carries no caption"):
        read_caption(path)
