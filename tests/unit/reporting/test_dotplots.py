"""What the dot plots draw, read back from their axes."""

import numpy as np
import pandas as pd
import pytest

from aeflow.display.dots import plot_categories, plot_claims, plot_variants
from aeflow.questions.categories import categories_table
from aeflow.questions.claims import claims_table
from aeflow.questions.results import main_table, results_table
from aeflow.questions.variants import COMPARISON_COLUMNS
from tests.unit.reporting.test_published import published


def comparison_rows(*rows):
    """Rows of `comparison.csv` on the dataset tiles with the reference whole."""
    names = ["variant", "auroc", "auroc_low", "auroc_high", "difference", "low", "high", "p_holm"]
    table = pd.DataFrame(rows, columns=names).assign(dataset="tiles", reference="whole", reason="")
    return table.reindex(columns=COMPARISON_COLUMNS)


def dots(axes, marker="o"):
    return [line.get_xydata() for line in axes.lines if line.get_marker() == marker]


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def runs_of(make_run, **changes):
    values = {"whole": ("aeflow", [0.8, 0.9]), "part": ("flow", [0.6, 0.7])}
    values["gradient"] = ("gradient", [0.55])
    return results_table(
        [
            make_run(variant=name, method=method, seed=seed, image_auroc=auroc, **changes)
            for name, (method, aurocs) in values.items()
            for seed, auroc in enumerate(aurocs)
        ]
    )


def test_variants_beside_the_reference(make_run):
    rows = comparison_rows(
        ["whole", 0.85, 0.8, 0.9, np.nan, np.nan, np.nan, np.nan],
        ["part", 0.65, 0.6, 0.7, -0.2, -0.3, -0.1, 0.01],
        ["gradient", 0.55, 0.5, 0.6, -0.3, -0.62, 0.02, 0.06],
    )
    figure = plot_variants(runs_of(make_run), rows, "tiles").figure
    left, right = figure.axes  # no masks, no third panel
    assert names(left) == ["whole", "part", "gradient"]
    assert dots(left)[0].ravel() == pytest.approx([85, 0, 65, 1, 55, 2])
    assert dots(left, "|")[0][:, 0] == pytest.approx([80, 90, 60, 70, 55])
    dotted = [line.get_xdata()[0] for line in left.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([55])
    marks = [line for line in right.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in marks[1:]] == ["#0072B2", "white"]
    wide = left.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in wide], [[80, 90], [60, 70], [50, 60]])
    # Two seeds: Student's interval is 12.7 / sqrt 2 times the sd wide, and may not rule the axis.
    assert left.get_xlim()[0] > 45
    pixels = plot_variants(runs_of(make_run, aupro=0.5), rows, "tiles").figure
    assert len(pixels.axes) == 3


def test_a_far_difference_is_written_where_others_are_near(make_run):
    far = ["part", 0.3, 0.2, 0.4, -0.55, -0.6, -0.5, 0.01]
    near = ["gradient", 0.8, 0.7, 0.9, -0.05, -0.1, 0.02, 0.06]
    whole = ["whole", 0.85, 0.8, 0.9, np.nan, np.nan, np.nan, np.nan]
    runs = runs_of(make_run)
    right = plot_variants(runs, comparison_rows(whole, far, near), "tiles").figure.axes[1]
    assert "◀ −55.0" in [text.get_text() for text in right.texts]
    assert right.get_xlim()[0] > -15
    alone = plot_variants(runs, comparison_rows(whole, far), "tiles").figure.axes[1]
    assert alone.get_xlim()[0] < -55


def test_categories_are_sorted_by_the_reference(make_run):
    auroc = {"a": (0.6, 0.9), "b": (0.9, 0.5), "c": (0.7, 0.6)}
    runs = [
        make_run(category=c, variant=v, image_auroc=values[k])
        for c, values in auroc.items()
        for k, v in enumerate(("whole", "part"))
    ]
    table = categories_table(results_table(runs), ["whole", "part"])
    for reference, order in (("whole", "bca"), ("part", "acb"), ("absent", "abc")):
        (axes,) = plot_categories(table, "tiles", reference).figure.axes
        assert names(axes) == [*order, "mean of all"]


def test_claims_have_a_row_per_source_and_variant(make_run):
    main = main_table(runs_of(make_run))
    claims = claims_table(main, published(image_auroc="92.00", f1="96"), chosen={"tiles": "part"})
    auroc, f1 = plot_claims(claims.fillna({"variant": ""}), "tiles").figure.axes
    assert names(auroc) == ["paper", "whole (faithful)", "part (chosen by validation)"]
    assert dots(auroc, "D")[0].tolist() == [[92, 0]]
    assert dots(auroc)[0].ravel() == pytest.approx([85, 1, 65, 2])
    assert f1.get_xlabel() == "F1 (%)"
