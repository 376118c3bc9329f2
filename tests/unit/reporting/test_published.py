from pathlib import Path

import pytest

from aeflow.errors import ConfigError
from aeflow.reporting.published import (
    Published,
    load_published,
    published_display,
    published_table,
)
from aeflow.reporting.tables import main_table, results_table

CONFIG = Path(__file__).parents[3] / "config" / "published.yaml"
SOURCE = {"title": "t", "citation": "c", "url": "u", "threshold": "not stated", "differs": "All."}


def published(**number):
    numbers = [{"dataset": "tiles", "who": "paper", **number}]
    return Published.model_validate({"sources": {"paper": SOURCE}, "numbers": numbers})


def test_numbers_are_quoted_as_printed_and_ours_stand_beside(make_run):
    runs = [make_run(seed=seed, image_auroc=auroc) for seed, auroc in ((0, 0.7), (1, 0.8))]
    main = main_table(results_table(runs))
    theirs, ours = published_table(main, published(image_auroc="92.00", f1="96")).to_dict(
        "records"
    )
    assert (theirs["AUC"], theirs["F1"], theirs["ACC"]) == ("92.00", "96", "")
    assert (theirs["threshold from"], theirs["AUC gap"]) == ("not stated", "")
    assert (ours["who"], ours["detail"]) == ("ours", "aeflow")
    assert (ours["AUC"], ours["AUC gap"]) == ("75.0 ± 7.1", "−17.0")
    assert (ours["F1"], ours["F1 (oracle)"]) == ("60.0 ± 0.0", "90.0 ± 0.0")
    assert ours["threshold from"] == "validation (f1_max)"
    assert ours["remark"] == "encoder tiny-stage3, 2 seeds"


def test_no_gap_without_both_numbers(make_run):
    main = main_table(results_table([make_run()]))
    assert published_table(main, published(f1="96"))["AUC gap"].tolist() == ["", ""]
    nothing = make_run(image_auroc=None, threshold_rule=None, encoder=None)
    table = published_table(main_table(results_table([nothing])), published(image_auroc="96"))
    ours = table.iloc[1]
    assert (ours["AUC"], ours["AUC gap"], ours["threshold from"]) == ("", "", "")
    assert ours["remark"] == "1 seed"


def test_better_than_the_paper_is_a_positive_gap(make_run):
    main = main_table(results_table([make_run(image_auroc=0.9)]))
    assert published_table(main, published(image_auroc="85"))["AUC gap"].tolist() == ["", "+5.0"]


def test_a_dataset_nobody_published(make_run):
    main = main_table(results_table([make_run(dataset="mine")]))
    table = published_display(main, published(f1="96"))
    assert table.cells.empty
    assert "No numbers are published" in table.note
    assert "AUC" in table.markdown()


def test_the_note_says_what_differs(make_run):
    main = main_table(results_table([make_run()]))
    assert "paper: All." in published_display(main, published(f1="96")).note


def test_mistakes_are_named(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text("sources: {}\nnumbers: [{dataset: tiles, who: nobody}]\n")
    with pytest.raises(ConfigError, match="nobody, which is not in sources"):
        load_published(path)
    path.write_text("sources: {}\nnumbers: [{dataset: tiles, who: paper, f1_score: '1'}]\n")
    with pytest.raises(ConfigError, match=r"unknown key 'numbers\.0\.f1_score'"):
        load_published(path)


def test_the_projects_file_holds_the_known_numbers_and_no_more():
    given = load_published(CONFIG)
    values = {
        (row.dataset, row.who, row.detail): [
            row.image_auroc,
            row.f1,
            row.accuracy,
            row.sensitivity,
            row.specificity,
        ]
        for row in given.numbers
    }
    nothing = None
    assert values == {
        ("oct2017", "paper", ""): ["98.15", "96", "94", "97", "88"],
        ("oct2017", "PA", "early, conv subnet"): ["43", "75", nothing, nothing, nothing],
        ("oct2017", "PA", "early, resnet subnet"): ["50", "71", nothing, nothing, nothing],
        ("chest_xray", "paper", ""): ["92.00", "88.92", "85.58", "91.28", "76"],
        ("chest_xray", "PA", "final text"): [nothing, "90.64", nothing, nothing, nothing],
        ("chest_xray", "PA", "early, resnet subnet"): ["82", "89", "86", "98", "66"],
        ("chest_xray", "PA", "early, conv subnet"): ["56", "76", nothing, nothing, nothing],
        ("chest_xray", "UR", ""): ["73.04", "81.12", "71.71", "95.05", nothing],
        ("miic", "paper", ""): [nothing, "89.62", nothing, nothing, nothing],
        ("miic", "PA", ""): [nothing, "30.76", "92.82", nothing, nothing],
        ("btad", "PA", "early, resnet subnet"): ["53", "57", nothing, nothing, nothing],
        ("btad", "PA", "early, conv subnet"): ["79", "74", "80", "71", "87"],
    }
