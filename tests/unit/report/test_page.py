"""The page is whole, needs nothing else, and says what is missing."""

import base64
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.display.figure import nothing_to_draw
from aeflow.display.table import read_table
from aeflow.report import contents, page
from aeflow.report.page import build_page, write_incomplete
from aeflow.study.cells import Cell, path
from tests.unit.report.conftest import ROOT
from tests.unit.small_results import STRANGE, small_study, write_results, write_tables

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}

BREAK = "|wbr|"  # a place where a long word may be broken
KINDS = ("Found: ", "Missed: ", "False alarm: ")


class Page(HTMLParser):
    """Collects what a test asks about and checks that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.drawn, self.links = [], [], [], []
        self.texts, self.tags = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "wbr":
            self.texts.append(BREAK)
        if tag == "img":
            self.images.append(attributes)
        elif tag == "svg":
            self.drawn.append(attributes["aria-label"])
        elif "src" in attributes or "href" in attributes:
            self.links.append(attributes.get("href") or attributes["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).replace(f" {BREAK} ", "").split())


def test_the_page_is_whole_and_needs_nothing_else(study, text):
    page = Page(text)
    panels = [of for name, of in contents.figures(study) if name == "panels"]
    assert len(page.drawn) == len(contents.figures(study)) - len(panels)
    examples = [image for image in page.images if image["alt"].startswith(KINDS)]
    assert len(page.images) == len(panels) + len(examples)
    assert 6 < len(examples) <= 12
    assert {image["src"].partition(",")[0] for image in page.images} == {"data:image/webp;base64"}
    assert all(len(told) > 20 for told in [*page.drawn, *(image["alt"] for image in page.images)])
    assert not {*page.tags} & {"link", "iframe", "object", "base", "b", "metadata"}
    assert page.tags.count("script") == 1
    assert not [loading for loading in ("url(", "@import") if loading in text.replace("url(#", "")]
    anchors = [link[1:] for link in page.links if link.startswith("#") and "-" not in link[:4]]
    assert anchors[:3] == ["answer", "main", "claims"]
    identities = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(identities)) == len(identities), "two figures share no element"
    assert set(anchors) <= set(identities)
    saved = [link for link in page.links if link.startswith("data:text/csv")]
    assert len(saved) == page.tags.count("table")
    outside = {link for link in page.links if not link.startswith(("#", "data:text/csv"))}
    assert {link for link in outside if not link.startswith("https://")} == {"browse/index.html"}
    assert build_page(study) == text


def test_a_table_is_saved_with_every_digit(study, text):
    (main,) = re.findall(
        r'href="data:text/csv;charset=utf-8;base64,(\S+)" download="small - Main', text
    )
    assert base64.b64decode(main) == path(study, "csv", {"table": "main"}).read_bytes()


def test_the_largest_figures_of_a_large_page_lie_beside_it(study, text, monkeypatch):
    sizes = [len(figure.content) for figure in page._pictures(study).values()]
    monkeypatch.setattr(page, "LARGEST", sum(sizes) - 1)
    few = Page(build_page(study))
    beside = [image for image in few.images if not image["src"].startswith("data:")]
    assert len(beside) == 1
    assert beside[0]["src"].startswith("figures/")
    assert "1 of its pictures lie beside this page" in few.text
    monkeypatch.setattr(page, "LARGEST", 0)
    none = Page(build_page(study))
    assert none.drawn == []
    beside = [image for image in none.images if not image["alt"].startswith(KINDS)]
    report = path(study, "report", {}).parent
    assert all((report / unquote(image["src"])).is_file() for image in beside)
    assert len(beside) == len(sizes)


def test_the_page_for_browsing_is_linked_and_made_before(study, text):
    assert "browse/index.html" in Page(text).links
    assert path(study, "browse", {}) in contents.page_inputs(study)


def test_a_question_that_nothing_answers_is_left_out(tmp_path, monkeypatch):
    """One variant, one seed, one category without published numbers."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "aeflow").symlink_to(ROOT / "aeflow")
    monkeypatch.chdir(tmp_path)
    small = small_study(
        seeds=[0],
        datasets=[{"name": "tiles", "card": "folder_mvtec", "source": "tiles"}],
        variants=[{"name": "flow", "method": "flow"}],
        ablations=[],
    )
    write_results(small)
    write_tables(small)
    for name, of in contents.figures(small):
        files = (path(small, end, {"figure": name, "of": of}) for end in ("png", "svg"))
        if name == "training":
            nothing_to_draw("tiles", "Training", "Fitted in closed form.").save(*files)
        else:
            contents.draw(small, name, of).save(*files)
    text = build_page(small)
    sections = re.findall('<details id="([^"]+)"', text)
    assert sections == ["operating", "failures", "dataset-tiles", "cost", "provenance"]
    drawn = " ".join(Page(text).drawn)
    assert "ROC curves of tiles" in drawn
    assert "closed form" not in text


def test_what_is_told(text):
    told = Page(text).text
    for expected in (
        "How well do aeflow, flow, gradient and ensemble tell anomalous images",
        "has the highest test AUROC of 4 variants",
        "4 variants on 2 datasets, 1 or 2 seeds each.",
        "Does it reproduce? Read this comparison with care.",
        "PA: Fits the threshold on normal and anomalous images",
        "flow.steps 8 (aeflow); 4 (flow)",
        "score.beta 0.9",
        "device cpu",
        "tiles : Mishra, Verk",
        "aupro, pixel_auroc: There are no pixel masks, or the method makes no map.",
        "Category Train, normal Validation, normal Validation, anomalous",
        "01 50 15 10 15 20",
        "AUROC of each score component on the test images",
        " ".join(STRANGE.split()),
        "Kept epoch",
    ):
        assert expected in told, expected
    assert "This study is incomplete" not in told


def test_figures_stand_with_their_question_or_their_dataset(text):
    order = [text.index(f'id="{name}"') for name in ("claims", "parts", "dataset-chest_xray")]
    order += [text.index('id="dataset-tiles"'), text.index('id="cost"')]
    places = {
        title: text.index(f'="Figure {title}.')
        for title in ("claims of chest_xray", "variants of tiles", "roc of chest_xray")
    }
    assert order[0] < places["claims of chest_xray"] < order[1] < places["variants of tiles"]
    assert (
        text.index('id="answer"')
        < places["roc of chest_xray"]
        < text.index('id="main"')
        < order[0]
    )
    columns = [
        text.index(f'="Figure {kind} of tiles+01+{variant}.')
        for variant in ("aeflow", "flow")
        for kind in ("panels", "scores", "training")
    ]
    assert order[3] < columns[0]
    assert columns == sorted(columns)
    assert columns[-1] < order[4]


def test_a_missing_figure_is_named(study, monkeypatch):
    monkeypatch.setattr(contents, "figures", lambda study: [("roc", "elsewhere")])
    with pytest.raises(DataError, match=r"roc-elsewhere\.svg is missing"):
        build_page(study)


def test_a_table_that_cannot_be_made_leaves_the_others(incomplete, monkeypatch, tmp_path):
    """Where a job of a table failed, and no cell."""

    def fail(source):
        raise DataError("A score has no scale.")

    monkeypatch.setattr("aeflow.questions.variants.comparison_table", fail)
    page, _ = incomplete()
    assert "This study is incomplete" in page.text
    assert "Tests against the reference It could not be made. A score has no scale." in page.text
    assert page.images == []
    assert not (tmp_path / "comparison.csv").exists()
    assert not read_table(tmp_path / "main.csv")["image_auroc_mean"].isna().any()


WHY = "The loss is not finite in epoch 2: lower training.lr."


@pytest.fixture
def incomplete(study, tmp_path, capsys):
    """Return a function that writes what there is after failures, and gives the page."""

    def write(*absent, warned=()):
        job = {"rule": "train_model", "of": "tiles 01 aeflow 1", "log": "job.log", "reason": WHY}
        missing = [{"table": cell, "failed": failed} for cell, failed in absent]
        known = {"jobs": [job], "missing": missing, "warnings": list(warned)}
        (tmp_path / "failures.json").write_text(json.dumps(known))
        write_incomplete(study, tmp_path / "failures.json")
        return Page((tmp_path / "report.html").read_text()), capsys.readouterr().err

    return write


def test_an_incomplete_study_shows_what_is_there_and_says_what_is_missing(incomplete, tmp_path):
    page, told = incomplete(
        (Cell("tiles", "01", "aeflow", 1), [0]), (Cell("tiles", "01", "ensemble", 0), [])
    )
    # aeflow, its three betas and its correction read the score table that is missing.
    assert "Cells without a result: 6 of 54; jobs that failed: 1." in told
    assert "This study is incomplete" in page.text
    assert "train_model tiles 01 aeflow 1 The loss is not finite in epoch 2" in page.text
    assert "tiles 01 aeflow_beta0.9 1 The loss is not finite" in page.text
    assert "tiles 01 ensemble 0 Not run." in page.text
    assert page.images == []
    tables = {name: read_table(tmp_path / f"{name}.csv") for name in contents.TABLES}
    results = tables["results"].set_index(["dataset", "category", "variant", "seed"])
    absent = results.loc[("tiles", "01", "aeflow", 1)]
    assert absent["reason"] == "The loss is not finite in epoch 2: lower training.lr."
    assert (absent["method"], pd.isna(absent["image_auroc"])) == ("aeflow", True)
    assert results.loc[("tiles", "01", "aeflow", 0), "reason"] == ""
    # A mean over the seed that is left would be a mean of something else.
    main = tables["main"].set_index(["dataset", "variant"])["image_auroc_mean"]
    assert main["tiles"].isna().to_dict() == {
        name: name.startswith("aeflow") or name == "ensemble" for name in main["tiles"].index
    }
    assert main["chest_xray"].notna().all()
    comparison = tables["comparison"].set_index(["dataset", "variant"])
    assert list(comparison.loc["tiles"].index) == ["flow", "gradient"]
    assert set(comparison.loc["tiles", "reason"]) == {"aeflow has no result on this dataset."}
    note = (tmp_path / "comparison.md").read_text()
    assert note.endswith("Not all results are there of tiles/aeflow, tiles/ensemble.\n")
