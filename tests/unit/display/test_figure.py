"""Files of figures keep their captions and are the same each time."""

from xml.etree import ElementTree

import pytest
from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.display.figure import ONE_COLUMN, STYLE, Caption, Drawing, looks, read_caption

SVG = "http://www.w3.org/2000/svg"


def drawing():
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().plot([0, 1], [1, 0], label="a")
    figure.legend()
    text = "Sensitivity ≥ 0.9 — “all”."
    return Drawing(figure, Caption("btad", "ROC of 01 & <02>", text))


def test_files_keep_their_caption_and_are_the_same_each_time(tmp_path):
    for name in ("first", "second"):
        drawing().save(*(tmp_path / f"{name}.{ending}" for ending in ("png", "svg", "pdf")))
    for ending in ("png", "svg", "pdf"):
        first, second = (tmp_path / f"{name}.{ending}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        for dated in (b"date>", b"CreationDate"):  # it would differ tomorrow
            assert dated not in first.read_bytes()
        if ending != "pdf":
            assert read_caption(first) == drawing().caption


def test_a_figure_is_printed_as_wide_as_a_column_with_text_as_text(tmp_path):
    files = [tmp_path / f"figure.{ending}" for ending in ("png", "svg", "pdf")]
    with style.context(STYLE):
        figure = Figure(figsize=(ONE_COLUMN, 2))
        figure.add_subplot().set_title("Costs $5 \\frac{ & more")  # a label, and no formula
        Drawing(figure, Caption("btad", "Costs", "")).save(*files)
    with Image.open(files[0]) as image:
        assert image.width / image.info["dpi"][0] * 2.54 == pytest.approx(8.5, abs=0.02)
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
    texts = [element.text for element in ElementTree.parse(files[1]).iter(f"{{{SVG}}}text")]
    assert "Costs $5 \\frac{ & more" in texts
    assert b"/FontFile2" in files[2].read_bytes()  # TrueType, so its text can be selected


def test_five_variants_are_told_apart_and_the_reference_is_one():
    names = [f"v{number}" for number in range(8)]
    found = looks(names, "v6")
    coloured = [name for name, look in found.items() if look.emphasised]
    assert sorted(coloured) == ["v0", "v1", "v2", "v3", "v6"]
    assert len({found[name].colour for name in coloured}) == 5
    assert len({(found[name].line, found[name].marker) for name in coloured}) == 5  # in gray too
    assert len({found[name] for name in names if name not in coloured}) == 1


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
