import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import AxesImage

from aeflow.questions.panels import choose_cases, plot_panels
from tests.unit.questions.memory import FigureMemory, make_run

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.9, 0.2, 0.3, 0.45, 0.8, 0.15, 0.7, 0.25, 0.52])
COLUMN = ("tiles", "all", "aeflow")


def test_the_cases_are_the_extremes_and_the_nearest():
    assert choose_cases(LABELS, SCORES, threshold=0.5) == [
        (5, "anomaly, highest score"),
        (6, "anomaly, lowest score"),
        (1, "normal, highest score"),
        (0, "normal, lowest score"),
        (9, "nearest the threshold"),
    ]
    assert len(choose_cases(LABELS, SCORES, None)) == 4


def test_no_image_is_shown_twice_and_few_images_do():
    for n in range(len(LABELS)):
        chosen = [index for index, _ in choose_cases(LABELS[:n], SCORES[:n], 0.5)]
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(range(n))
        assert len(chosen) == min(n, 3 + (n > 6) + (n > 5)), "three without anomalies"


@pytest.fixture
def gallery():
    """Images and maps of twelve test images, masks on the anomalous ones."""
    generator = np.random.default_rng(1)
    gt_label, shape = np.repeat([0, 1], 6), (12, 32, 32)
    return {
        "image_id": np.array([f"tiles/{index:03d}" for index in range(12)]),
        "gt_label": gt_label,
        "defect": np.where(gt_label, "crack", "good"),
        "image": generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "reconstruction": generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "difference": generator.random(shape),
        "flow_map": (5 * generator.random(shape)).astype(np.float16),
        "mask": (generator.random(shape) > 0.5) & (gt_label == 1)[:, None, None],
        "has_mask": gt_label == 1,
    }


def source_of(gallery, threshold=0.5):
    """The scores of the gallery's images, in another order, after validation images."""
    shuffled = np.random.default_rng(3).permutation(12)
    columns = {name: gallery[name][shuffled] for name in ("image_id", "gt_label", "defect")}
    table = pd.DataFrame({"split": "test"} | columns)
    table["score"] = np.random.default_rng(2).normal(size=12).round(3)
    others = table.assign(split="validation", image_id="tiles/x" + table["image_id"])
    table = pd.concat([others, table], ignore_index=True)
    table.loc[table["image_id"] == "tiles/004", "score"] = 0.5
    return FigureMemory(make_run(threshold=threshold), scores=[table], gallery=gallery)


def draw(gallery, n_columns=5):
    figure = plot_panels(source_of(gallery), *COLUMN).figure
    return np.array(figure.axes[: 5 * n_columns]).reshape(5, n_columns)


def shown(axes):
    (image,) = (child for child in axes.get_children() if isinstance(child, AxesImage))
    return image.get_array()


def test_rows_show_the_images_their_label_names(gallery):
    scores = source_of(gallery).predictions("test")["tiles"]["aeflow"]["all"]
    by_image = dict(zip(scores.images["image_id"], scores.score[:, 0], strict=True))
    grid = draw(gallery)
    titles = ["input", "reconstruction", "difference", "anomaly map", "overlay"]
    assert [axes.get_title() for axes in grid[0]] == titles
    drawn = np.array([shown(row[3]) for row in grid])
    ends = np.percentile(drawn, [0.5, 99.5])
    for row in grid:
        why, *_, defect, name, numbers = row[0].get_ylabel().split("\n")
        index = list(gallery["image_id"]).index(f"tiles/{name}")
        for axes, array in zip(row, ("image", "reconstruction", "difference"), strict=False):
            np.testing.assert_array_equal(shown(axes), gallery[array][index])
        np.testing.assert_array_equal(shown(row[3]), gallery["flow_map"][index])
        assert row[3].images[0].get_clim() == pytest.approx(ends)
        assert defect == gallery["defect"][index]
        assert why.startswith(("anomaly", "nearest") if gallery["gt_label"][index] else ("n",))
        score, comparison, threshold = numbers.replace("−", "-").split()
        assert float(score) == by_image[f"tiles/{name}"]
        assert comparison == ("≥" if float(score) >= 0.5 else "<")
        assert float(threshold) == 0.5
        # A line surrounds the defect: dark below light, so it is seen on both.
        assert len(row[4].collections) == (2 if gallery["has_mask"][index] else 0)
        assert not row[0].collections


def test_the_line_surrounds_the_defect_up_to_the_border(gallery):
    gallery["mask"][:] = False
    gallery["mask"][6:, :10, 20:] = True
    row = draw(gallery)[0]
    points = np.concatenate([p.vertices for p in row[4].collections[0].get_paths()])
    assert points.min(axis=0).tolist() == [19.5, -0.5]
    assert points.max(axis=0).tolist() == [31.5, 9.5]


def test_one_scale_for_all_rows_and_an_overlay_by_it(gallery):
    gallery["flow_map"][:, :16], gallery["flow_map"][:, 16:] = -1, 7
    gallery["difference"][:] = 0  # a map of one value still has a scale
    grid = draw(gallery)
    for column in (2, 3):
        assert len({axes.images[0].get_clim() for axes in grid[:, column]}) == 1
    for row in grid:
        image, highest = shown(row[0]) / 255, matplotlib.colormaps["inferno"](1.0)[:3]
        np.testing.assert_allclose(shown(row[4])[:16], image[:16])
        np.testing.assert_allclose(shown(row[4])[16:], 0.4 * image[16:] + 0.6 * np.array(highest))


def test_what_there_is_not_has_no_column(gallery):
    gallery["has_mask"][:] = False
    del gallery["reconstruction"], gallery["difference"]
    grid = draw(gallery, 3)
    assert [axes.get_title() for axes in grid[0]] == ["input", "anomaly map", "overlay"]
    figure = plot_panels(source_of(gallery, None), *COLUMN).figure
    assert all("≥" not in axes.get_ylabel() for axes in figure.axes)
