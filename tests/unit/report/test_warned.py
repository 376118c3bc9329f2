"""What jobs warned of: once each, with what it is about, on a page and on a terminal."""

import pytest

from aeflow.core.errors import DataError
from aeflow.core.receipts import write_receipt
from aeflow.report.page import build_page
from aeflow.report.warned import SCREENFUL, Warned, on_terminal, warnings_of
from aeflow.study.cells import STEPS, Cell, jobs_of, path
from tests.unit.report.conftest import ROOT
from tests.unit.report.test_page import Page
from tests.unit.small_results import small_study, write_results

FEW = "The threshold is the 0.95 quantile of {} validation normals."


def warn(file, *sentences, **facts):
    write_receipt(file, made={}, origin={}, settings={}, facts=facts, warnings=sentences)


@pytest.fixture
def warned(study, tmp_path, monkeypatch):
    """A study whose jobs left receipts with warnings, in a folder of its own."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)

    def place(name, *cell, **more):
        return path(study, name, Cell(*cell) if cell else more)

    for seed in (0, 1):
        variants = {
            "aeflow": {"warnings": [FEW.format(4)]},
            "aeflow_beta0.9": {"warnings": [FEW.format(4), "Every image has the score 0."]},
        }
        metrics = place("metrics", "tiles", "01", "aeflow", seed)
        warn(metrics, FEW.format(4), "Every image has the score 0.", variants=variants)
    variants = {"flow": {"warnings": [FEW.format(5)]}}
    warn(place("metrics", "tiles", "02", "flow", 0), FEW.format(5), variants=variants)
    warn(place("prepared", dataset="tiles", category="01"), "tiles/01: 3 images left out.")
    warn(place("prepared", dataset="tiles", category="02"), "tiles/02: 3 images left out.")
    warn(place("trained", "tiles", "02", "flow", 1), "Fewer images than a batch.", n_train=3)
    return study


def test_each_warning_is_told_once_with_what_it_is_about(warned):
    found = {told.text(): told.about for told in warnings_of(warned, jobs_of(warned))}
    assert found == {
        # Same but for its numbers: one sentence.
        FEW.format(4) + " (Numbers: the first one's.)": [
            *("tiles/01/aeflow, seeds 0, 1", "tiles/01/aeflow_beta0.9, seeds 0, 1"),
            "tiles/02/flow, seed 0",
        ],
        "Every image has the score 0.": ["tiles/01/aeflow_beta0.9, seeds 0, 1"],
        # Numbers in names make another sentence.
        "tiles/01: 3 images left out.": ["tiles/01"],
        "tiles/02: 3 images left out.": ["tiles/02"],
        "Fewer images than a batch.": ["tiles/02/flow, seed 1"],
    }
    here = [
        ("make_table", {"table": "main"}),
        ("prepare_images", {"dataset": "tiles", "category": "02"}),
    ]
    assert [told.about for told in warnings_of(warned, here)] == [["tiles/02"]]


def test_a_warning_of_every_step_is_told(warned):
    jobs = dict(jobs_of(warned))
    for step, given in jobs.items():
        warn(path(warned, STEPS[step].receipt, given), f"Of {step}.")
    told = {told.sentence for told in warnings_of(warned, jobs.items())}
    assert told == {f"Of {step}." for step in jobs}
    assert "extract_features" in jobs


def test_a_receipt_that_is_none_is_named(warned):
    file = path(warned, "prepared", {"dataset": "tiles", "category": "01"})
    file.write_text("{}")
    with pytest.raises(DataError, match=f"{file} is no receipt"):
        warnings_of(warned, jobs_of(warned))


def test_a_terminal_gets_a_screenful_and_where_the_rest_stands():
    many = [
        Warned(f"Something is {'very ' * 30}wrong with kind {kind}.", ["a"])
        for kind in "abcdefghij"
    ]
    lines = on_terminal(many, "results/s/report.html", 80).splitlines()
    assert lines[0] == "10 warnings about these results:"
    assert max(map(len, lines)) <= 80
    assert len(lines) <= SCREENFUL + 2
    assert lines[-2] == f"* and {10 - sum(line.startswith('* Some') for line in lines)} more."
    assert lines[-1] == "All of them, and all that they are about: results/s/report.html"
    one = on_terminal([Warned("x\x1b[31m\ny", [f"tiles/{k}" for k in range(9)])], "here", 200)
    assert one.splitlines()[:3] == [
        *("1 warning about these results:", r"* x\x1b[31m y"),
        "    tiles/0; tiles/1; tiles/2; tiles/3; and 5 more",
    ]
    alone = on_terminal([Warned("long " * 1000, ["a"])], "here", 80)
    assert len(alone.splitlines()) > SCREENFUL  # whole, as it is the only one


def test_the_page_begins_with_warnings_where_there_are_any(folder, study, monkeypatch):
    monkeypatch.chdir(folder)
    assert 'id="warnings"' not in build_page(study)
    text = build_page(study, warned=[Warned("<b>odd</b> is | odd.", ["tiles/01", "tiles/02"])])
    page = Page(text)
    assert text.index('id="warnings"') < text.index('id="main"')
    assert "Warning About <b>odd</b> is | odd. tiles/01; tiles/02" in page.text
    assert '<details id="warnings" open>' in text
    assert 'class="long"' not in text
    many = Warned("Odd.", [f"tiles/{number:03}" for number in range(99)])
    text = build_page(study, warned=[many])
    assert (
        '<div class="long" tabindex="0">tiles/<wbr>000; ' in text
    )  # it scrolls: the rest stays near


def test_what_real_metrics_were_warned_of_is_told(tmp_path, monkeypatch):
    """The metrics of real scores: 15 validation normals are too few for their 0.95 quantile."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    study = small_study(datasets=[{"name": "chest_xray"}], threshold={"rule": "specificity"})
    write_results(study)
    told = warnings_of(study, jobs_of(study))
    assert told[0].sentence.startswith("The threshold is the 0.95 quantile of 15 validation")
    assert "chest_xray/all/aeflow, seeds 0, 1" in told[0].about
    assert "chest_xray/all/ensemble, seed 0" in told[0].about
