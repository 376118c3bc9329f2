from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import ConfigError
from aeflow.questions.claims import (
    COMPARED,
    Published,
    claims_display,
    claims_table,
    load_published,
    read_claims,
)
from aeflow.questions.results import main_table, results_table, write_table
from aeflow.study.entries import DatasetEntry

CONFIG = Path(__file__).parents[3] / "config" / "published.yaml"
SOURCE = {"title": "t", "citation": "c", "url": "u", "threshold": "not stated", "differs": "All."}


def published(threshold="not stated", **number):
    numbers = [{"dataset": "tiles", "who": "paper", **number}]
    source = SOURCE | {"threshold": threshold}
    return Published.model_validate({"sources": {"paper": source}, "numbers": numbers})


def main_of(make_run, *values, **changes):
    """The main table of a seed per value of AUROC."""
    runs = [make_run(seed=seed, image_auroc=v, **changes) for seed, v in enumerate(values)]
    return main_table(results_table(runs))


def only(table):
    (row,) = table.to_dict("records")
    return row


def test_a_claim_stands_beside_ours(make_run):
    main = main_of(make_run, 0.7, 0.8, 0.9)
    row = only(claims_table(main, published(image_auroc="92.00", remark="Rounded")))
    assert (row["printed"], row["published"], row["variant"]) == ("92.00", 0.92, "aeflow")
    expected = stats.ttest_1samp([0.7, 0.8, 0.9], 0).confidence_interval(0.95)
    assert [row["ours_low"], row["ours_high"]] == pytest.approx(list(expected))
    assert (row["ours_mean"], row["ours_sd"]) == pytest.approx((0.8, 0.1))
    assert (row["n_seeds"], row["verdict"]) == (3, "within")
    assert row["difference"] == pytest.approx(-0.12)
    assert row["why"] == "Rounded; our encoder is tiny-stage3, the paper's wide_resnet50_2-stage3"


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        # Our interval is 0.8 -+ 4.303 x 0.01 / sqrt 3: from 77.516 to 82.484.
        ("80.00", "within"),
        ("82.48", "within"),
        ("82.49", "below"),
        ("82.50", "below"),
        ("82.5", "within"),  # 82.45 is rounded to it
        ("83", "below"),
        ("77.52", "within"),
        ("77.51", "above"),
        ("77.50", "above"),
        ("77.5", "within"),
    ],
)
def test_the_rule_of_the_verdict(make_run, printed, verdict):
    main = main_of(make_run, 0.79, 0.8, 0.81)
    assert only(claims_table(main, published(image_auroc=printed)))["verdict"] == verdict


def test_one_seed_has_a_difference_and_no_verdict(make_run):
    row = only(claims_table(main_of(make_run, 0.9), published(image_auroc="85")))
    assert (row["difference"], row["verdict"]) == (pytest.approx(0.05), "not comparable")
    assert row["why"].startswith("one seed has no interval; our encoder")


def test_what_was_not_run_has_empty_cells(make_run):
    main = main_of(make_run, 0.8, 0.9, dataset="mine")
    row = only(claims_table(main, published(f1="96", remark="All but AUC rounded")))
    assert (row["published"], row["verdict"]) == (0.96, "not run")
    assert row["why"] == "this study has no such dataset or variant; All but AUC rounded"
    for name in ("variant", "ours_mean", "ours_low", "n_seeds", "difference"):
        assert pd.isna(row[name])
    gradient = main_of(make_run, 0.8, 0.9, method="gradient")
    assert only(claims_table(gradient, published(f1="96")))["verdict"] == "not run"


def test_a_value_that_we_lack(make_run):
    main = main_of(make_run, None, 0.9)
    row = only(claims_table(main, published(image_auroc="85")))
    assert (row["verdict"], np.isnan(row["difference"])) == ("not comparable", True)
    assert row["why"].startswith("this study has no such value")


def test_a_threshold_from_test_labels_compares_with_the_oracle_only(make_run):
    main = main_of(make_run, 0.7, 0.8, encoder="wide_resnet50_2-stage3")
    numbers = published("test (oracle)", image_auroc="75.0", f1="81.12", accuracy="71.71")
    auroc, f1, accuracy = claims_table(main, numbers).to_dict("records")
    assert (auroc["verdict"], auroc["why"]) == ("within", "")
    assert (f1["ours_metric"], f1["ours_mean"], f1["verdict"]) == ("oracle_f1", 0.9, "above")
    assert f1["why"] == "both F1 at a threshold fitted on test labels"
    assert (accuracy["ours_mean"], accuracy["verdict"]) == (pytest.approx(0.65), "not comparable")
    assert np.isnan(accuracy["difference"])
    assert "fitted on test labels, ours on validation images" in accuracy["why"]
    same = claims_table(main, published("validation", f1="60"))
    assert (only(same)["ours_metric"], only(same)["why"]) == ("f1", "")
    assert "their threshold is not stated" in only(claims_table(main, published(f1="60")))["why"]


def test_whose_numbers_stand_beside(make_run):
    runs = [
        make_run(seed=seed, variant=variant, method=method)
        for variant, method in (("plain", "flow"), ("a", "aeflow"), ("b", "aeflow"))
        for seed in (0, 1)
    ]
    main = main_table(results_table(runs))
    first = claims_table(main, published(image_auroc="80", f1="60"))
    assert first["variant"].tolist() == ["a", "a"]
    assert first["metric"].tolist() == ["image_auroc", "f1"]
    assert set(first["role"]) == {"faithful"}
    both = claims_table(main, published(image_auroc="80"), chosen={"tiles": "plain"})
    assert both["variant"].tolist() == ["a", "plain"]
    assert both["role"].tolist() == ["faithful", "chosen by validation"]
    same = claims_table(main, published(image_auroc="80"), chosen={"tiles": "a"})
    assert same["role"].tolist() == ["faithful, chosen by validation"]
    elsewhere = claims_table(main, published(image_auroc="80"), chosen={"other": "plain"})
    assert elsewhere["variant"].tolist() == ["a"]


def test_numbers_stand_beside_every_entry_of_their_card(make_run, tmp_path):
    runs = [
        make_run(dataset=dataset, seed=seed)
        for dataset in ("oct2017", "disjoint", "copy")
        for seed in (0, 1)
    ]
    entries = [
        DatasetEntry(name="oct2017", split="official"),  # as its card says
        DatasetEntry(name="disjoint", card="oct2017", split="patient_disjoint"),
        DatasetEntry(name="copy", card="oct2017", source="copy.zip"),
    ]
    numbers = published(dataset="oct2017", image_auroc="80.0")
    table = claims_table(main_table(results_table(runs)), numbers, entries).set_index("dataset")
    assert table["verdict"].to_dict() == {
        "oct2017": "within",
        "disjoint": "not comparable",
        "copy": "within",
    }
    assert table.loc["disjoint", "why"].startswith("our split is patient_disjoint, not the")
    assert np.isnan(table.loc["disjoint", "difference"])
    some = [DatasetEntry(name="oct2017", categories=["x"])]
    alone = only(claims_table(main_of(make_run, 0.8, 0.8, dataset="oct2017"), numbers, some))
    assert alone["verdict"] == "not comparable"
    assert alone["why"].startswith("ours has the categories x alone")
    write_table(table.reset_index(), tmp_path / "claims.csv")
    assert read_claims(tmp_path / "claims.csv")["printed"].tolist() == ["80.0"] * 3


def displayed(main, numbers):
    return claims_display(claims_table(main, numbers), numbers)


def test_the_table_for_people(make_run):
    main = main_of(make_run, 0.7, 0.8)
    table = displayed(main, published(image_auroc="92.00", f1="96"))
    row = table.cells.iloc[0].to_dict()
    assert (row["Metric"], row["Published"], row["Ours"]) == ("AUROC", "92.00", "75.0 ± 7.1")
    assert (row["95 % interval"], row["Difference"]) == ("11.5–138.5", "−17.0")
    assert (row["Seeds"], row["Verdict"]) == ("2", "within")
    assert table.cells["Difference"].tolist()[1] == "−36.0"
    assert "paper: All." in table.note
    better = displayed(main_of(make_run, 0.9), published(image_auroc="85"))
    assert better.cells["Difference"].item() == "+5.0"


def test_a_dataset_nobody_published(make_run):
    table = displayed(main_of(make_run, 0.8, dataset="mine"), published(f1="96"))
    assert table.cells.empty
    assert "No numbers are published" in table.note
    assert "Published" in table.markdown()


def test_every_number_of_the_projects_file_has_a_row(make_run):
    given = load_published(CONFIG)
    main = main_of(make_run, 0.8, 0.9, dataset="chest_xray")
    table = claims_table(main, given)
    count = sum(getattr(row, metric) is not None for row in given.numbers for metric in COMPARED)
    assert len(table) == count == 36
    run = table["dataset"] == "chest_xray"
    assert (table["verdict"][~run] == "not run").all()
    assert (table["verdict"][run] != "not run").all()
    assert table["ours_mean"].notna().equals(run)


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
