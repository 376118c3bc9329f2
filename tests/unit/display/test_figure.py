"""Files of figures keep their captions and are the same each time."""

import pytest
from matplotlib.figure import Figure

from aeflow.core.errors import DataError
from aeflow.display.figure import Caption, Drawing, read_caption


def drawing():
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().plot([0, 1], [1, 0], label="a")
    figure.legend()
    text = "Sensitivity ≥ 0.9 — “all”."
    return Drawing(figure, Caption("btad", "ROC of 01 & <02>", text))


def test_files_keep_their_caption_and_are_the_same_each_time(tmp_path):
    for name in ("first", "second"):
        drawing().save(tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for ending in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{ending}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert read_caption(first) == drawing().caption
        assert b"date>" not in first.read_bytes()  # it would differ tomorrow


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_broken_figures_are_named(tmp_path, ending):
    path = tmp_path / f"figure.{ending}"
    with pytest.raises(DataError, match="is missing"):
        read_caption(path)
    path.write_text("<svg")
    with pytest.raises(DataError, match="no complete figure"):
        read_caption(path)
    Figure().savefig(path)
    with pytest.raises(DataError, match="carries no caption"):
        read_caption(path)
