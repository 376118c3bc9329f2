import pytest
from matplotlib.figure import Figure

from aeflow.core.errors import DataError
from aeflow.display.figure import Caption, Drawing, read_caption


def test_files_keep_their_caption_and_are_the_same_each_time(tmp_path):
    for name in ("first", "second"):
        illustration = Drawing(Figure(), Caption("tiles", "Scores", "Higher is more anomalous."))
        illustration.figure.add_subplot(title="tiles").plot([0, 1], [1, 0], label="a")
        illustration.save(tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
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
