import numpy as np
import pytest
from matplotlib.image import AxesImage

from aeflow.core.errors import DataError
from aeflow.questions.panels import choose_cases, plot_panels

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.9, 0.2, 0.3, 0.45, 0.8, 0.15, 0.7, 0.25, 0.52])


def test_the_cases_are_the_extremes_and_the_nearest():
    cases = choose_cases(LABELS, SCORES, threshold=0.5, each=1)
    assert [(case.index, case.why) for case in cases] == [
        (5, "anomaly, highest score"),
        (6, "anomaly, lowest score"),
        (1, "normal, highest score"),
        (0, "normal, lowest score"),
        (9, "nearest the threshold"),
    ]
    two = [case.index for case in choose_cases(LABELS, SCORES, threshold=0.5)]
    assert two == [5, 7, 6, 8, 1, 4, 0, 2, 9, 3]


def test_no_image_is_shown_twice_and_few_images_do():
    for n in range(len(LABELS)):
        chosen = [case.index for case in choose_cases(LABELS[:n], SCORES[:n], 0.5)]
        assert sorted(chosen) == list(range(n))


def test_no_threshold_no_borderline_case():
    assert len(choose_cases(LABELS, SCORES, None)) == 8


def shown(axes) -> np.ndarray:
    (image,) = (child for child in axes.get_children() if isinstance(child, AxesImage))
    return image.get_array()


def panels_of(figure, n_columns):
    return np.array(figure.axes[: 10 * n_columns]).reshape(10, n_columns)


def test_rows_show_the_images_their_label_names(gallery, scores, scored_run):
    figure = plot_panels(gallery, scores, scored_run).figure
    grid = panels_of(figure, 6)
    assert [axes.get_title() for axes in grid[0]] == [
        *["input", "reconstruction", "difference", "flow map", "overlay", "mask"]
    ]
    for row in grid:
        why, defect, name, numbers = row[0].get_ylabel().split("\n")
        index = list(gallery["image_id"]).index(f"tiles/{name}")
        np.testing.assert_array_equal(shown(row[0]), gallery["image"][index])
        np.testing.assert_array_equal(shown(row[1]), gallery["reconstruction"][index])
        np.testing.assert_array_equal(shown(row[3]), gallery["flow_map"][index])
        assert defect == gallery["defect"][index]
        assert why.startswith(("anomaly", "nearest") if gallery["gt_label"][index] else ("n",))
        _, score, comparison, threshold = numbers.replace("−", "-").split()
        assert comparison == ("≥" if float(score) >= float(threshold) else "<")
        assert float(threshold) == pytest.approx(scored_run["threshold"], rel=1e-3)
        if gallery["has_mask"][index]:
            np.testing.assert_array_equal(shown(row[5]), gallery["mask"][index])
        else:
            assert row[5].texts[0].get_text() == "no mask"


def test_one_scale_for_all_rows(gallery, scores, scored_run):
    gallery["flow_map"][0] *= 100
    grid = panels_of(plot_panels(gallery, scores, scored_run).figure, 6)
    for column in (2, 3):
        limits = {axes.images[0].get_clim() for axes in grid[:, column]}
        assert len(limits) == 1


def test_a_map_of_one_value_still_has_a_scale(gallery, scores, scored_run):
    gallery["difference"][:] = 0
    plot_panels(gallery, scores, scored_run)


def test_no_mask_column_without_masks(gallery, scores, scored_run):
    gallery["has_mask"][:] = False
    figure = plot_panels(gallery, scores, scored_run).figure
    assert "mask" not in [axes.get_title() for axes in figure.axes]


def test_overlay_is_the_input_where_the_map_is_lowest(gallery, scores, scored_run):
    gallery["flow_map"][:, :16] = -1
    grid = panels_of(plot_panels(gallery, scores, scored_run).figure, 6)
    for row in grid:
        np.testing.assert_allclose(shown(row[4])[:16], shown(row[0])[:16] / 255)


def test_same_panels_same_bytes(gallery, scores, scored_run, tmp_path):
    for name in ("first", "second"):
        illustration = plot_panels(gallery, scores, scored_run)
        illustration.save(tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for suffix in (".png", ".svg"):
        first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_an_image_without_scores_is_named(gallery, scores, scored_run):
    with pytest.raises(DataError, match="lacks tiles/085"):
        plot_panels(gallery, scores[scores["image_id"] != "tiles/085"], scored_run)
