"""How much the flow's score should weigh: choices small enough to make by hand."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from aeflow.questions.ablations import plot_weighting, weighting_display, weighting_table
from tests.unit.questions.memory import Memory, make_run, small_study

BETA = {"name": "beta", "of": "aeflow", "key": "score.beta"}
BY_HAND = [
    # seed, beta, category, validation, test
    *[(0, 0.0, "a", 0.6, 0.5), (0, 0.0, "b", 0.8, 0.5)],  # mean 0.7
    *[(0, 0.9, "a", 0.9, 0.6), (0, 0.9, "b", 0.7, 0.8)],  # mean 0.8: chosen
    *[(0, 1.0, "a", 0.5, 0.9), (0, 1.0, "b", 0.9, 0.9)],  # mean 0.7, the best on test
    *[(1, 0.0, "a", 0.9, 0.4), (1, 0.0, "b", 0.9, 0.6)],  # chosen
    *[(1, 0.9, "a", 0.6, 0.7), (1, 0.9, "b", 0.6, 0.7)],
    *[(1, 1.0, "a", 0.5, 0.8), (1, 1.0, "b", 0.5, 0.8)],
]


def run(variant, seed, category, val_auroc, image_auroc):
    names = {"category": category, "variant": variant, "seed": seed}
    return make_run(**names, val_auroc=val_auroc, image_auroc=image_auroc)


def source_of(rows, **ablation):
    betas = list(dict.fromkeys(beta for _, beta, *_ in rows))
    study = small_study(ablations=[BETA | {"values": betas} | ablation])
    endings = [v.name.removeprefix("aeflow_beta") for v in study.all_variants[2:]]
    runs = [
        run(f"aeflow_beta{ending}", seed, *rest)
        for seed, beta, *rest in rows
        for ending in endings
        if ending.split("_")[0] == str(beta)
    ]
    return Memory(*runs, study=study)


def row_of(source):
    (row,) = weighting_table(source).to_dict("records")
    return row


def test_every_seed_chooses_once_for_all_categories():
    row = row_of(source_of(BY_HAND))
    expected = {
        **{"beta_mean": 0.45, "beta_sd": 0.9 / np.sqrt(2), "n_seeds": 2},
        **{"val_auroc_mean": 0.85, "test_auroc_mean": 0.6, "test_auroc_sd": 0.2 / np.sqrt(2)},
        **{"paper_test_auroc_mean": 0.7, "reconstruction_only_test_auroc_mean": 0.5},
        **{"flow_only_test_auroc_mean": 0.85, "flow_only_val_auroc_mean": 0.6},
        **{"oracle_beta_mean": 1.0, "oracle_test_auroc_mean": 0.85},
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert (row["variant"], row["flow"], row["reconstruction"], row["scaling"], row["reason"]) == (
        *("aeflow", "density", "ssim", "raw"),  # as aeflow itself has them
        "",
    )


@pytest.mark.parametrize(
    ("betas", "nearest"),
    [([0.8, 0.5, 1.0], 1.0), ([0.1, 0.7, 0.2], 0.7), ([1.0, 0.85], 0.85), ([0.95, 0.85], 0.95)],
)
def test_among_equals_it_is_the_nearest_to_the_papers(betas, nearest):
    row = row_of(source_of([(0, beta, "a", 0.8, 0.7) for beta in betas]))
    assert (row["beta_mean"], row["oracle_beta_mean"]) == (nearest, nearest)
    assert np.isnan(row["paper_test_auroc_mean"])  # 0.9 is not listed


def test_no_choice_but_the_oracles_sees_the_test():
    swapped = [(seed, beta, c, val, 1 - test) for seed, beta, c, val, test in BY_HAND]
    before, after = row_of(source_of(BY_HAND)), row_of(source_of(swapped))
    for name in ("beta_mean", "beta_sd", "val_auroc_mean", "paper_val_auroc_mean"):
        assert before[name] == after[name]
    assert after["test_auroc_mean"] == pytest.approx(0.4)
    assert after["oracle_beta_mean"] == 0.0


def test_kinds_of_score_come_from_what_the_ablation_crosses():
    across = {"score.flow": ["nll", "density"], "score.scaling": ["standardised"]}
    source = source_of(BY_HAND, across=across | {"score.correct": ["none", "complexity"]})
    table = weighting_table(source)
    assert table[["flow", "scaling", "reconstruction", "across"]].to_numpy().tolist() == [
        [flow, "standardised", "ssim", f"score.correct={correct}"]
        for flow in ("nll", "density")
        for correct in ("none", "complexity")
    ]
    assert weighting_display(table, source).cells["With"].iloc[0] == "score.correct=none"


def test_ablations_of_one_kind_of_score_are_one_choice():
    names = {"low": [0.0, 0.9], "high": [0.9, 1.0]}
    study = small_study(
        ablations=[BETA | {"name": name, "values": betas} for name, betas in names.items()],
        seeds=[0],
    )
    runs = [
        run(f"aeflow_{name}{beta}", 0, "a", 0.5 + beta / 10, 0.7)
        for name, betas in names.items()
        for beta in betas
    ]
    assert row_of(Memory(*runs, study=study))["beta_mean"] == 1.0


def test_without_validation_anomalies_there_is_a_reason_instead_of_a_choice():
    lacking = [(s, b, c, None if (s, c) == (0, "a") else v, t) for s, b, c, v, t in BY_HAND]
    source = source_of(lacking)
    row = row_of(source)
    # The mean over categories and over seeds needs all of them.
    assert np.isnan([row[f"{name}_mean"] for name in ("beta", "val_auroc", "test_auroc")]).all()
    assert row["oracle_beta_mean"] == 1.0
    assert row["reason"].startswith("No validation AUROC to choose by")
    shown = weighting_display(weighting_table(source), source)
    assert "Beta" not in shown.cells
    assert shown.cells[["Beta (oracle)", "Why empty"]].iloc[0].tolist() == ["1.00", row["reason"]]
    assert not shown.bold.to_numpy().any()


def test_the_table_for_people():
    source = source_of(BY_HAND, across={"score.flow": ["density", "nll"]})
    for item in source.runs():
        if item["variant"].endswith("nll"):
            item["val_auroc"] = item["val_auroc"] / 2
    shown = weighting_display(weighting_table(source), source)
    assert shown.cells["Beta"].tolist() == ["0.45 ± 0.64"] * 2
    assert shown.cells["Beta (oracle)"].tolist() == ["1.00"] * 2  # the seeds agree
    assert shown.cells["AUROC, test"].tolist() == ["60.0 ± 14.1"] * 2
    for column in ("AUROC, validation", "AUROC, test"):
        assert shown.bold[column].tolist() == [True, False]


def test_without_an_ablation_of_beta_there_is_a_sentence():
    source = Memory(make_run(), study=small_study())
    assert "no ablation of score.beta" in weighting_display(weighting_table(source), source).note


def test_the_figure_has_every_curve_and_mark():
    across = {"score.flow": ["density", "nll"], "score.reconstruction": ["ssim", "mse"]}
    figure = plot_weighting(source_of(BY_HAND[::-1], across=across), "tiles").figure
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"aeflow\nS_recon {name}, raw" for name in ("ssim", "mse")]
    own = [line for line in figure.axes[1].lines if to_rgba(line.get_color()) == to_rgba("C1")]
    expected = [
        [[0, 50], [0.9, 70], [1, 85]],  # test
        [[0, 80], [0.9, 70], [1, 60]],  # validation
        [[0.45, 60]],  # chosen
        [[1, 85]],  # oracle
    ]
    assert [line.get_linestyle() for line in own] == ["-", "--", "None", "None"]
    for line, points in zip(own, expected, strict=True):
        np.testing.assert_allclose(line.get_xydata(), points)
    band = figure.axes[1].collections[1].get_paths()[0].vertices  # of the validation
    assert band[:, 1].max() == pytest.approx(80 + 100 * np.std([0.7, 0.9], ddof=1))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    marks = ["test", "validation", "chosen on validation", "oracle"]
    assert legend == ["S_flow = density", "S_flow = nll", *marks]
    tested = [(seed, beta, category, None, test) for seed, beta, category, _, test in BY_HAND]
    figure = plot_weighting(source_of(tested), "tiles").figure
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[1:] == ["test", "oracle"]  # what is not drawn is not named


def test_a_figure_of_one_class_says_so_and_a_kind_that_is_not_crossed_has_no_panel():
    nothing = [(s, b, c, v, None) for s, b, c, v, _ in BY_HAND]
    figure = plot_weighting(source_of(nothing), "tiles").figure
    assert "No test AUROC" in figure.axes[0].texts[0].get_text()
    first = BETA | {"values": [0.9], "across": {"score.reconstruction": ["ssim", "mse"]}}
    second = BETA | {"name": "b", "values": [0.9], "across": {"score.scaling": ["standardised"]}}
    study = small_study(ablations=[first, second])
    runs = [run(variant.name, 0, "a", 0.8, 0.7) for variant in study.all_variants[2:]]
    figure = plot_weighting(Memory(*runs, study=study), "tiles").figure
    assert [len(axes.lines) > 4 for axes in figure.axes] == [True, True, True]


def test_ablations_of_two_decoders_have_whole_panels_and_no_holes():
    """A grid over all S_recon once had as many holes as panels, and was two pages wide."""
    features = {"decoder": {"target": "features"}, "score": {"reconstruction": "residual"}}
    variants = [{"name": "features", "label": "Ours", "settings": features}, {"name": "pixels"}]
    betas = {"key": "score.beta", "values": [0.0, 0.25, 1.0]}
    kinds = {"features": ["residual", "residual_top"], "pixels": ["ssim", "mse", "centred_mse"]}
    ablations = [
        betas | {"name": f"beta{of}", "of": of, "across": {"score.reconstruction": kinds_}}
        for of, kinds_ in kinds.items()
    ]
    study = small_study(variants=variants, ablations=ablations)
    runs = [run(variant.name, 0, "a", 0.8, 0.7) for variant in study.all_variants[2:]]
    figure = plot_weighting(Memory(*runs, study=study), "tiles").figure
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes]
    names = [(("Ours" if of == "features" else of), kind) for of in kinds for kind in kinds[of]]
    assert titles == [f"{name} S_recon {kind}, raw" for name, kind in names]
    for axes in figure.axes:
        drawn = [line for line in axes.lines if len(line.get_xdata()) == 3]
        assert [line.get_xdata().tolist() for line in drawn] == [[0, 0.25, 1]] * 2
