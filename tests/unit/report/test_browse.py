"""The page of a study's test images, in a browser, says what the study's own code says."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.judging.metrics import ranking_metrics, threshold_curve, threshold_metrics
from aeflow.judging.thresholds import fit_threshold
from aeflow.report.browse import write_browse
from aeflow.report.contents import example_cells, figures, galleries
from aeflow.scoring.combine import pred_score
from aeflow.scoring.score_tables import read_scores
from aeflow.study.cells import Cell, path, table_of
from tests.conftest import until
from tests.unit.small_results import STRANGE, STUDY, small_study

AEFLOW = Cell("tiles", "01", "aeflow", 1)
METRICS = {"Sensitivity": "sensitivity", "Specificity": "specificity", "F1": "f1"}
METRICS |= {"Accuracy": "accuracy", "AUROC": "image_auroc"}


@pytest.fixture
def write(study, tmp_path):
    def write(study=study, missing=None):
        write_browse(study, tmp_path / "index.html", tmp_path / "data", missing)
        return tmp_path / "index.html"

    return write


def address(cell, **more):
    words = cell._asdict() | more
    return "#" + "&".join(f"{name}={value}" for name, value in words.items())


def scores_at(study, cell, beta):
    """Return the labels and scores of the validation and the test images at another beta."""
    table = read_scores(path(study, "scores", table_of(study, cell)))
    settings = study.cell(cell.dataset, cell.variant).score.model_copy(update={"beta": beta})
    scores = pred_score(table, study.variant(cell.variant).method, settings)
    test = (table["split"] == Split.TEST).to_numpy()
    labels = table["gt_label"].to_numpy()
    return (labels[~test], scores[~test]), (labels[test], scores[test]), table[test]


def told(page, side="A"):
    rows = page.locator(f".{side} .metrics tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def expected(judged, threshold):
    curve = threshold_curve(*judged)
    values = threshold_metrics(curve, threshold) | ranking_metrics(curve)
    return {shown: f"{100 * float(values[name]):.1f}" for shown, name in METRICS.items()}


def confusion(page):
    return [int(text) for text in page.locator(".A .confusion tbody td").all_inner_texts()]


def settled(page):
    """Wait until what was changed is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def placed(page):
    """Return the texts of the cards in their order."""
    return page.locator(".item").evaluate_all(
        "items => items.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
        ".map(item => [item.innerText, item.querySelector('a').className])"
    )


def test_sliders_give_the_numbers_of_the_study(study, write, open_page):
    page = open_page(write(), address(AEFLOW))
    page.locator(".card").first.wait_for()
    settings = study.cell("tiles", "aeflow")
    assert settings.score.beta not in (0.25, 0.0)
    for beta in (settings.score.beta, 0.25, 0.0):
        page.locator(".A .beta").fill(str(beta))
        settled(page)
        known, judged, _ = scores_at(study, AEFLOW, beta)
        threshold = fit_threshold(*known, settings.threshold).value
        assert told(page) == expected(judged, threshold)
        assert float(page.locator(".A .limit-value").input_value()) == pytest.approx(
            threshold, rel=1e-5
        )
    # Between two images: the confusion matrix by hand, and the point of the curve.
    labels, scores = judged
    limit = float(np.sort(scores)[20:22].mean())
    page.locator(".A .limit-value").fill(repr(limit))
    settled(page)
    counts = [
        int(((labels == kind) & (called == (scores >= limit))).sum())
        for kind in (0, 1)
        for called in (False, True)
    ]
    assert confusion(page) == counts
    assert told(page) == expected(judged, limit)
    point = page.locator(".A circle")
    assert float(point.get_attribute("cx")) == pytest.approx(100 * counts[1] / 15)
    assert float(point.get_attribute("cy")) == pytest.approx(100 - 100 * counts[3] / 20)
    # The slider goes from image to image.
    page.locator(".A .limit").press("ArrowLeft")
    settled(page)
    assert sum(confusion(page)[1::2]) in (counts[1] + counts[3], counts[1] + counts[3] + 1)
    page.locator(".A .limit").press("Home")
    settled(page)
    assert confusion(page) == [0, 15, 0, 20]
    page.locator(".A .own").click()
    settled(page)
    known, judged, _ = scores_at(study, AEFLOW, settings.score.beta)
    assert told(page) == expected(judged, fit_threshold(*known, settings.threshold).value)


def test_order_filters_and_what_is_saved(study, write, open_page):
    page = open_page(write(), address(AEFLOW), height=3000)
    page.locator(".card").first.wait_for()
    known, (labels, scores), table = scores_at(
        study, AEFLOW, study.cell("tiles", "aeflow").score.beta
    )
    limit = fit_threshold(*known, study.cell("tiles", "aeflow").threshold).value
    ids = table["image_id"].to_numpy()
    wrong = (scores >= limit) != (labels == 1)
    margin = np.where(labels == 1, limit - scores, scores - limit)
    orders = {"high": -scores, "low": scores, "near": abs(scores - limit), "error": -margin}

    def names():
        settled(page)
        return [f"01/{text.strip().splitlines()[-1]}" for text, _ in placed(page)]

    for order, key in orders.items():
        page.locator("#order").select_option(order)
        assert names() == ids[np.argsort(key, kind="stable")].tolist()
    page.locator("#order").select_option("given")
    called = scores >= limit
    shows = {"wrong": wrong, "right": ~wrong, "missed": wrong & (labels == 1)}
    shows |= {"alarms": wrong & (labels == 0), "anomalous": called, "normal": ~called}
    for show, rows in shows.items():
        page.locator("#show").select_option(show)
        assert names() == ids[rows].tolist()
        assert page.locator("#told").inner_text().startswith(f"{rows.sum()} of 35 images")
    page.locator("#show").select_option("all")
    page.locator("#defect").select_option(f"={STRANGE}")
    strange = (table["defect"] == STRANGE).to_numpy()
    assert 0 < strange.sum() < 35
    assert names() == ids[strange].tolist()
    page.locator("#text").fill(ids[strange][0].upper())
    assert names() == [ids[strange][0]]
    page.locator("#text").fill("")
    settled(page)
    with page.expect_download() as download:
        page.locator("#save").click()
    content = Path(download.value.path()).read_text()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert [row["image_id"] for row in rows] == ids[strange].tolist()
    assert [float(row["pred_score"]) for row in rows] == scores[strange].tolist()
    assert [row["pred_label"] for row in rows] == [str(int(each)) for each in called[strange]]
    assert {row["defect"] for row in rows} == {f"'{STRANGE}"}
    assert {(row["dataset"], row["variant"], row["seed"]) for row in rows} == {
        ("tiles", "aeflow", "1")
    }
    normals = known[1][known[0] == 0]
    p_values = [(1 + (normals >= score).sum()) / (1 + len(normals)) for score in scores[strange]]
    assert [float(row["p_value"]) for row in rows] == pytest.approx(p_values)


def test_two_variants_side_by_side(study, write, open_page, check_accessible):
    page = open_page(write(), address(AEFLOW, variant2="gradient", seed2=0), dark=True)
    page.locator(".card").first.wait_for()
    for side, cell in (("A", AEFLOW), ("B", AEFLOW._replace(variant="gradient", seed=0))):
        beta = study.cell(cell.dataset, cell.variant).score.beta
        _, judged, _ = scores_at(study, cell, beta)
        metrics = json.loads(path(study, "metrics", table_of(study, cell)).read_text())
        threshold = metrics["facts"]["variants"][cell.variant]["threshold"]
        assert told(page, side) == expected(judged, threshold)
    page.locator("#show").select_option("differ")
    settled(page)
    for text, _ in placed(page):
        verdicts = {line.split(": ")[1].split()[0] for line in text.strip().splitlines()[:2]}
        assert verdicts == {"anomalous", "normal"}
    check_accessible(page)


def test_keyboard_and_a_link_to_one_image(write, open_page, check_accessible):
    path = write()
    page = open_page(path, address(AEFLOW, image="01/30"))
    page.locator("#large[open]").wait_for()
    assert page.locator("#name").inner_text() == "01/30"
    check_accessible(page)
    page.keyboard.press("Escape")
    page.locator("#large").wait_for(state="hidden")
    assert "image=" not in page.evaluate("location.hash")
    page.locator("#order").select_option("given")
    page.locator("#save").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    page.locator("#save").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#large[open]").wait_for()
    first = page.locator("#name").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#name").inner_text()
    assert [first, second] == ["01/27", "01/28"]
    linked = open_page(path, page.evaluate("location.hash"))
    linked.locator("#large[open]").wait_for()
    assert linked.locator("#name").inner_text() == "01/28"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_can_be_read_and_fits(write, open_page, check_accessible, width, dark):
    page = open_page(write(), "#dataset=tiles&category=02", width=width, dark=dark)
    page.locator(".card").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#group option").all_inner_texts() == [
        "chest_xray",
        "tiles, 01",
        "tiles, 02",
    ]
    page.locator("#group").select_option("0")
    until(page, "location.hash.includes('chest_xray')")
    check_accessible(page)


def test_a_cell_without_a_result_is_left_out_and_named(study, write, open_page):
    page = open_page(write(missing={AEFLOW: "The disk was full."}), address(AEFLOW))
    page.locator(".card").first.wait_for()
    assert page.locator("#lacking").text_content().strip().startswith("1 left out")
    assert "tiles/01/aeflow/seed1: The disk was full." in page.locator("#lacking").text_content()
    options = page.locator(".A .variant option").all_inner_texts()
    assert "aeflow, seed 0" in options
    assert "aeflow, seed 1" not in options


def test_a_gallery_of_other_images_is_refused(study, write, folder, tmp_path, monkeypatch):
    (tmp_path / "config").symlink_to(folder / "config")
    shutil.copytree(folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    name = path(study, "gallery", table_of(study, AEFLOW))
    shutil.copy(path(study, "gallery", AEFLOW._replace(category="02")), name)
    with pytest.raises(DataError, match="has other test images than its score table"):
        write()


def test_a_variant_without_pictures_needs_no_gallery_and_is_there_with_its_numbers(
    study, tmp_path, monkeypatch
):
    """So a clone without its galleries makes everything again."""
    shutil.copytree("results", tmp_path / "results")
    variants = [each | {"pictures": each["name"] != "aeflow"} for each in STUDY["variants"]]
    shown = small_study(variants=variants)
    hidden = {*galleries(study, "browse")} - {*galleries(shown, "browse")}
    assert {file.parts[5] for file in hidden} == {"aeflow"}
    for file in hidden:
        (tmp_path / file).unlink()
    panels = [of for name, of in figures(shown) if name == "panels"]
    assert panels
    assert not [of for of in panels if of.endswith("+aeflow")]
    assert "aeflow" not in {cell.variant for cell in example_cells(shown)}
    monkeypatch.chdir(tmp_path)
    write_browse(shown, tmp_path / "index.html", tmp_path / "data")
    page = (tmp_path / "index.html").read_text()
    assert '"label":"aeflow, seed 1"' in page.replace(": ", ":")


def test_images_that_may_not_be_seen_are_on_no_page_and_in_no_panel(study, tmp_path):
    """Of all datasets: the page is there, and its folder, without a picture."""
    hidden = [entry.model_copy(update={"pictures": False}) for entry in study.datasets]
    for count in (1, len(hidden)):
        entries = [*hidden[:count], *study.datasets[count:]]
        shown = study.model_copy(update={"datasets": entries})
        seen = {entry.name for entry in study.datasets[count:]}
        write_browse(shown, tmp_path / "index.html", tmp_path / "data")
        page = (tmp_path / "index.html").read_text()
        assert f"{hidden[0].name}: the study says `pictures: false`" in page
        assert bool([*(tmp_path / "data").iterdir()]) == bool(seen)
        panels = {of.split("+")[0] for name, of in figures(shown) if name == "panels"}
        assert panels == {cell.dataset for cell in example_cells(shown)} == seen
        assert {file.parts[3] for file in galleries(shown, "browse")} <= seen
        assert figures(shown), "of the numbers"
