"""The comparison against hand calls of the tests behind it, and what is drawn of it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aeflow.core.types import Split
from aeflow.display.table import typed
from aeflow.judging.delong import compare_aurocs, mean_comparison
from aeflow.questions.variants import comparison_table, p_text, plot_variants
from aeflow.scoring.predictions import SeedScores
from aeflow.study.study import Study
from tests.unit.questions.memory import Memory, make_run

LABELS = {"a": np.repeat([0, 1], [40, 30]), "b": np.repeat([0, 1], [25, 50])}


def variant(shift, number, seeds=3, labels=LABELS):
    """Scores (N, seeds) of each category."""
    found = {}
    for k, (name, gt_label) in enumerate(labels.items()):
        generator = np.random.default_rng(10 * number + k)
        score = generator.normal(size=(len(gt_label), seeds)) + shift * gt_label[:, None]
        found[name] = SeedScores(pd.DataFrame({"gt_label": gt_label}), score)
    return found


TILES = {
    **{"whole": variant(1.5, 1), "part": variant(0.9, 2), "other": variant(1.4, 3)},
    "gradient": variant(0.2, 4, seeds=1),
}


def source_of(reference="whole", study=None, **predictions):
    names = dict.fromkeys([reference, *(name for found in predictions.values() for name in found)])
    runs = [
        make_run(variant=name, method="gradient" if name == "gradient" else "aeflow")
        for name in names
    ]
    return Memory(*runs, study=study, predictions={Split.TEST: predictions})


def test_a_row_is_the_test_of_the_mean_over_seeds_and_categories():
    table = source_of(tiles=TILES).table("comparison")
    assert table["variant"].tolist() == ["whole", "part", "other", "gradient"]
    row = table.set_index("variant").loc["part"]
    first, second = TILES["part"], TILES["whole"]
    by_hand = mean_comparison(
        [compare_aurocs(LABELS[c], first[c].score, second[c].score) for c in "ab"]
    )
    for name in ("difference", "low", "high", "z", "p_value"):
        assert row[name] == getattr(by_hand, name)
    part, whole = (
        np.array([[roc_auc_score(LABELS[c], s) for s in scores[c].score.T] for c in "ab"]).mean(0)
        for scores in (first, second)
    )
    assert row["auroc"] == pytest.approx(part.mean())
    assert row["reference_auroc"] == pytest.approx(whole.mean())
    ends = stats.ttest_1samp(part - whole, 0).confidence_interval(0.95)
    assert [row["seed_low"], row["seed_high"]] == pytest.approx(list(ends))
    assert row["seed_mean"] == pytest.approx((part - whole).mean())
    assert row["seed_sd"] == pytest.approx((part - whole).std(ddof=1))
    assert (row["n_seeds"], row["reason"]) == (3, "")


def test_holm_counts_the_tests_of_one_dataset():
    pair = {name: TILES[name] for name in ("whole", "other")}
    table = source_of(tiles=TILES, others=pair).table("comparison")
    p_value, corrected = table["p_value"].to_numpy(), table["p_holm"].to_numpy()
    assert np.isnan(corrected[[0, 4]]).all()
    order = 1 + np.argsort(p_value[1:4])
    expected = np.maximum.accumulate(p_value[order] * [3, 2, 1])
    assert corrected[order] == pytest.approx(np.minimum(expected, 1))
    assert corrected[5] == p_value[5]


def test_a_method_without_seeds_may_be_either_side():
    forward = source_of(tiles=TILES).table("comparison").set_index("variant").loc["gradient"]
    other = source_of("gradient", tiles=TILES).table("comparison")
    backward = other.set_index("variant").loc["whole"]
    for name in ("difference", "seed_mean", "z"):
        assert forward[name] == pytest.approx(-backward[name])
    assert forward["p_value"] == pytest.approx(backward["p_value"])
    assert (forward["n_seeds"], backward["n_seeds"]) == (3, 3)


def test_what_cannot_be_tested_has_a_reason():
    few, none = {"a": np.array([0, 0, 1])}, {"a": np.array([0, 0, 0])}
    source = source_of(
        "x",
        one={"x": variant(1, 1, seeds=1), "y": variant(1, 2, seeds=1)},
        few={"x": variant(1, 1, labels=few), "y": variant(1, 2, labels=few)},
        none={"x": variant(1, 1, labels=none), "y": variant(1, 2, labels=none)},
        away={"y": variant(1, 1)},
    )
    table = source.table("comparison").set_index(["dataset", "variant"])
    found = table.xs("y", level="variant")
    assert found.loc["one", "reason"] == "One training of y and x: no claim about others."
    assert found.loc["one", ["seed_sd", "seed_low"]].isna().all()
    assert "10 normal and 10 anomalous images" in found.loc["few", "reason"]
    assert found.loc["few", ["z", "p_holm"]].isna().all()
    assert found.loc["none", "reason"] == "There are no anomalous images."
    assert found.loc["away", "reason"] == "x has no result on this dataset."
    known = found[["auroc", "difference"]].notna().to_numpy().tolist()
    assert known == [[True, True], [True, True], [False, False], [True, False]]


def test_the_table_for_people():
    source = source_of(tiles=TILES)
    table, shown = source.table("comparison"), source.shown("comparison")
    assert shown.cells["Variant"].tolist() == ["part", "other", "gradient"]
    assert shown.bold["Difference"].tolist() == table["claim"][1:].tolist()
    assert set(table["claim"][1:]) == {True, False}
    one = source_of(tiles={"whole": TILES["whole"]}).shown("comparison")
    assert "no second variant" in one.note
    assert source_of().table("comparison").empty
    assert [p_text(p) for p in (0.0004, 0.0123, 0.099, 0.5, 1.0, np.nan)] == [
        *["<0.001", "0.012", "0.099", "0.50", "1.00", ""]
    ]


def drawn(*rows, more=(), **changes):
    """The axes of runs and `more`, and of rows of a comparison with the reference whole."""
    names = ["variant", "auroc", "auroc_low", "auroc_high", "difference", "low", "high", "claim"]
    table = pd.DataFrame(rows, columns=names).assign(dataset="tiles", reference="whole", reason="")
    comparison = typed(table.reindex(columns=comparison_table(source_of()).columns))
    values = {"whole": ("aeflow", [0.8, 0.9]), "part": ("flow", [0.6, 0.7])}
    values["gradient"] = ("gradient", [0.55])
    runs = [
        make_run(variant=name, method=method, seed=seed, image_auroc=auroc, **changes)
        for name, (method, aurocs) in values.items()
        for seed, auroc in enumerate(aurocs)
    ]
    return plot_variants(Memory(*runs, *more, comparison=comparison), "tiles").figure.axes


WHOLE = ["whole", 0.85, 0.8, 0.9, np.nan, np.nan, np.nan, False]


def test_variants_are_drawn_beside_the_reference():
    rows = [
        WHOLE,
        ["part", 0.65, 0.6, 0.7, -0.2, -0.3, -0.1, True],
        ["gradient", 0.55, 0.5, 0.6, -0.3, -0.62, 0.02, False],
    ]
    left, right = drawn(*rows)  # no masks, no third panel
    assert [text.get_text() for text in left.get_yticklabels()] == ["whole", "part", "gradient"]
    lines = {line.get_marker(): line.get_xydata() for line in left.lines}
    assert lines["o"].ravel() == pytest.approx([85, 0, 65, 1, 55, 2])
    assert lines["|"][:, 0] == pytest.approx([80, 90, 60, 70, 55])
    dotted = [line.get_xdata()[0] for line in left.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([55])
    marks = [line for line in right.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in marks[1:]] == ["#0072B2", "white"]
    wide = left.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in wide], [[80, 90], [60, 70], [50, 60]])
    # Two seeds: Student's interval is 12.7 / sqrt 2 times the sd wide, and may not rule the axis.
    assert left.get_xlim()[0] > 45
    assert len(drawn(*rows, aupro=0.5)) == 3


def test_a_seed_that_lacks_a_category_has_no_tick():
    lacking = make_run(variant="whole", seed=0, category="b", image_auroc=None)
    part = ["part", 0.65, 0.6, 0.7, -0.2, -0.3, -0.1, True]
    axes = drawn(WHOLE, part, more=[lacking])[0]
    ticks = [line for line in axes.lines if line.get_marker() == "|"]
    assert ticks[0].get_xdata()[:2] == pytest.approx([np.nan, 90], nan_ok=True)


def test_a_far_difference_is_written_where_others_are_near():
    far = ["part", 0.3, 0.2, 0.4, -0.55, -0.6, -0.5, True]
    near = ["gradient", 0.8, 0.7, 0.9, -0.05, -0.1, 0.02, False]
    right = drawn(WHOLE, far, near)[1]
    assert "◀ −55.0" in [text.get_text() for text in right.texts]
    assert right.get_xlim()[0] > -15
    assert drawn(WHOLE, far)[1].get_xlim()[0] < -55


def shifted(by, seeds, noise=0.02, images=5):
    """Scores of one category whose AUROC changes little from seed to seed, of a shift."""
    labels, draw = np.repeat([0, 1], [200, 200]), np.random.default_rng(images)
    one = draw.normal(size=400) + by * labels
    score = one[:, None] + noise * draw.normal(size=(400, seeds))
    return {"a": SeedScores(pd.DataFrame({"gt_label": labels}), score)}


def claims_of(study=None, **variants):
    table = source_of("whole", study, tiles=variants).table("comparison")
    return table.set_index("variant").drop("whole")


def test_a_claim_needs_other_images_and_other_trainings():
    """A filled dot once said "significant" while the interval over seeds crossed 0."""
    unsure = shifted(0.3, 3)
    unsure["a"].score[:, 0] += (
        3 * unsure["a"].images["gt_label"].to_numpy()
    )  # a seed that is better
    found = claims_of(whole=shifted(1, 3), other=shifted(0.3, 3), unsure=unsure)
    assert (found["p_holm"] < 0.05).all()
    assert found.loc["unsure", "seed_low"] < 0 < found.loc["unsure", "seed_high"]
    assert found["claim"].to_dict() == {"other": True, "unsure": False}
    alike = claims_of(whole=shifted(1, 3), alike=shifted(1.01, 3, 1e-3, images=6))
    assert alike.loc["alike", "seed_low"] * alike.loc["alike", "seed_high"] > 0
    assert alike["claim"].tolist() == [False]  # surely another, for these images alone


def test_one_seed_of_a_trained_method_bears_no_claim():
    found = claims_of(whole=shifted(1, 1), other=shifted(0.3, 1))
    assert found["p_holm"].max() < 1e-3
    assert found["claim"].tolist() == [False]
    assert (
        found.loc["other", "reason"] == "One training of other and whole: no claim about others."
    )
    # An ensemble is one detector; its trainings were all used up.
    variants = [{"name": "whole"}, {"name": "both", "method": "fusion", "members": ["whole"]}]
    content = {"datasets": [{"name": "tiles"}], "variants": variants, "seeds": [0, 1, 2]}
    study = Study.model_validate(content)
    ensemble = claims_of(study, whole=shifted(1, 3), both=shifted(0.3, 1))
    assert ensemble["claim"].tolist() == [False]
    assert "One training of both" in ensemble.loc["both", "reason"]


def test_methods_without_training_need_the_test_over_images_alone():
    variants = [{"name": name, "method": "gradient"} for name in ("whole", "other")]
    study = Study.model_validate({"datasets": [{"name": "tiles"}], "variants": variants})
    found = claims_of(study, whole=shifted(1, 1), other=shifted(0.3, 1))
    assert (found["claim"].tolist(), found["reason"].tolist()) == ([True], [""])
    mixed = claims_of(whole=shifted(1, 3), gradient=shifted(0.3, 1))
    assert mixed["claim"].tolist() == [True]  # other trainings of one side were looked at


def test_table_and_figure_show_the_same_claims():
    source = source_of(
        tiles={"whole": shifted(1, 3), "other": shifted(0.3, 3), "near": shifted(1, 3, images=6)}
    )
    bold = source.shown("comparison").bold["Difference"].tolist()
    axes = plot_variants(source, "tiles").figure.axes[1]
    dots = [line for line in axes.lines if line.get_marker() == "o"][1:]
    arrows = [text.get_text()[0] for text in axes.texts if text.get_text()[0] in "◀◁"]
    assert bold == [True, False]
    assert (arrows, dots[1].get_markerfacecolor()) == (["◀"], "white")
