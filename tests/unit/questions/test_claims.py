"""The verdict's rule by hand, and which numbers may stand beside which."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import ConfigError
from aeflow.questions.claims import COMPARED, plot_claims
from aeflow.questions.source import Published, load_published
from aeflow.study.cards import DATASET_CARDS, load_dataset_card
from aeflow.study.study import Study
from tests.unit.questions.memory import Memory, make_run

CONFIG = Path(__file__).parents[3] / "config" / "published.yaml"
PRINTED = {
    "title": "t",
    "citation": "c",
    "url": "https://x.org",
    "threshold": "not stated",
    "differs": "All.",
}


def published(threshold="not stated", **number):
    numbers = [{"dataset": "tiles", "who": "paper", **number}]
    sources = {"paper": PRINTED | {"threshold": threshold}}
    return Published.model_validate({"sources": sources, "numbers": numbers})


def source_of(runs, numbers, study=None, **chosen):
    """A source of these runs; `chosen` is the variant that validation chose, by dataset."""
    columns = {"dataset": list(chosen), "variant": list(chosen.values()), "chosen": True}
    choice = pd.DataFrame(columns).astype({"chosen": bool})
    return Memory(*runs, study=study, published=numbers, choice=choice)


def seeds(*values, **changes):
    return [make_run(seed=seed, image_auroc=v, **changes) for seed, v in enumerate(values)]


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    """The cards of the repository, and of each dataset here that has none the tiles'."""

    def read(name, **given):
        known = (DATASET_CARDS / f"{name}.yaml").exists()
        return load_dataset_card(name if known else "magnetic_tile", **given)

    monkeypatch.setattr("aeflow.questions.claims.load_dataset_card", read)


def rows(runs, numbers, **options):
    return source_of(runs, numbers, **options).table("claims").to_dict("records")


def test_a_claim_stands_beside_ours():
    source = source_of(seeds(0.7, 0.8, 0.9), published(image_auroc="92.00", remark="Rounded"))
    (row,) = source.table("claims").to_dict("records")
    assert (row["printed"], row["published"], row["variant"]) == ("92.00", 0.92, "aeflow")
    expected = stats.ttest_1samp([0.7, 0.8, 0.9], 0).confidence_interval(0.95)
    assert row["ours_low"] == pytest.approx(expected.low)
    assert row["ours_high"] == 1 < expected.high  # no AUROC is above 1
    assert (row["ours_mean"], row["ours_sd"]) == pytest.approx((0.8, 0.1))
    assert (row["n_seeds"], row["verdict"]) == (3, "undecided")
    assert row["difference"] == pytest.approx(-0.12)
    assert row["why"] == "Rounded; our encoder is tiny-stage3, the paper's wide_resnet50_2-stage3"
    cells = source.shown("claims").cells.iloc[0]
    assert (cells["Metric"], cells["Published"], cells["Ours"]) == (
        "AUROC",
        "92.00",
        "80.0 ± 10.0",
    )
    assert (cells["95 % interval"], cells["Difference"]) == ("55.2–100.0", "−12.0")
    assert "paper: All." in source.shown("claims").note


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        # Our interval is 0.8 -+ 4.303 x 0.01 / sqrt 3: from 77.516 to 82.484.
        *(("80.00", "within"), ("82.48", "within"), ("82.49", "below"), ("82.50", "below")),
        ("82.5", "within"),  # 82.45 is rounded to it
        *(("83", "below"), ("77.52", "within"), ("77.51", "above"), ("77.50", "above")),
        ("77.5", "within"),
    ],
)
def test_the_rule_of_the_verdict(printed, verdict):
    (row,) = rows(seeds(0.79, 0.8, 0.81), published(image_auroc=printed))
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("apart", "verdict"), [(0.0078, "within"), (0.008, "undecided")])
def test_an_interval_of_more_than_ten_points_is_no_verdict(apart, verdict):
    """Student's of two seeds is 12.7 times the distance between them."""
    (row,) = rows(seeds(0.5, 0.5 + apart), published(image_auroc="50.0"))
    assert row["ours_high"] - row["ours_low"] == pytest.approx(12.706 * apart, rel=1e-3)
    assert row["verdict"] == verdict
    (row,) = rows(seeds(0.5, 0.5 + apart), published(image_auroc="90.0"))
    assert row["verdict"] == "below"  # whatever its width


def test_without_an_interval_or_a_value_there_is_no_verdict():
    (one,) = rows(seeds(0.9), published(image_auroc="85"))
    assert (one["difference"], one["verdict"]) == (pytest.approx(0.05), "not comparable")
    assert one["why"].startswith("one seed has no interval; our encoder")
    (lacking,) = rows(seeds(None, 0.9), published(image_auroc="85"))
    assert (lacking["verdict"], np.isnan(lacking["difference"])) == ("not comparable", True)
    assert lacking["why"].startswith("this study has no such value")


def test_what_was_not_run_has_empty_cells():
    source = source_of(seeds(0.8, 0.9, dataset="mine"), published(f1="96", remark="Rounded"))
    (row,) = source.table("claims").to_dict("records")
    assert (row["published"], row["verdict"], row["variant"]) == (0.96, "not run", "")
    assert row["why"] == "this study has no such dataset or variant; Rounded"
    assert all(pd.isna(row[name]) for name in ("ours_mean", "ours_low", "n_seeds", "difference"))
    shown = source.shown("claims")
    assert shown.cells.empty
    assert "No numbers are published" in shown.markdown()
    gradient = seeds(0.8, 0.9, method="gradient")
    assert rows(gradient, published(f1="96"))[0]["verdict"] == "not run"


def test_a_threshold_from_test_labels_compares_with_the_oracle_only():
    runs = seeds(0.7, 0.8, encoder="wide_resnet50_2-stage3")
    numbers = published("test (oracle)", image_auroc="75.0", f1="81.12", accuracy="71.71")
    auroc, f1, accuracy = rows(runs, numbers)
    assert (auroc["verdict"], auroc["why"]) == ("undecided", "")
    assert (f1["ours_metric"], f1["ours_mean"], f1["verdict"]) == ("oracle_f1", 0.9, "above")
    assert f1["why"] == "both F1 at a threshold fitted on test labels"
    assert (accuracy["ours_mean"], accuracy["verdict"]) == (pytest.approx(0.65), "not comparable")
    assert np.isnan(accuracy["difference"])
    assert "fitted on test labels, ours on validation images" in accuracy["why"]
    (same,) = rows(runs, published("validation", f1="60"))
    assert (same["ours_metric"], same["why"]) == ("f1", "")
    assert "their threshold is not stated" in rows(runs, published(f1="60"))[0]["why"]


def test_whose_numbers_stand_beside():
    runs = [
        run
        for variant, method in (("plain", "flow"), ("a", "aeflow"), ("b", "aeflow"))
        for run in seeds(0.8, 0.8, variant=variant, method=method)
    ]

    def beside(**chosen):
        found = rows(runs, published(image_auroc="80"), **chosen)
        return [(row["variant"], row["role"]) for row in found]

    assert beside() == beside(other="plain") == [("a", "the first AE-FLOW")]
    assert beside(tiles="plain") == [("a", "the first AE-FLOW"), ("plain", "chosen by validation")]
    assert beside(tiles="a") == [("a", "the first AE-FLOW, chosen by validation")]
    metrics = [row["metric"] for row in rows(runs, published(image_auroc="80", f1="60"))]
    assert metrics == ["image_auroc", "f1"]


def test_numbers_stand_beside_every_entry_of_their_card():
    entries = [
        {"name": "oct2017", "split": "official"},  # as its card says
        {"name": "disjoint", "card": "oct2017", "split": "patient_disjoint"},
        {"name": "copy", "card": "oct2017", "source": "copy.zip"},
        {"name": "some", "card": "oct2017", "categories": ["x"]},
        {"name": "each", "card": "oct2017", "categories": ["all"]},  # of the card's
    ]
    runs = [run for entry in entries for run in seeds(0.8, 0.8, dataset=entry["name"])]
    study = Study.model_validate({"datasets": entries})
    numbers = published(dataset="oct2017", image_auroc="80.0")
    found = {row["dataset"]: row for row in rows(runs, numbers, study=study)}
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert verdicts == {
        **{"oct2017": "within", "copy": "within", "each": "within"},
        **{"disjoint": "not comparable", "some": "not comparable"},
    }
    assert found["disjoint"]["why"].startswith("our split is patient_disjoint, not the")
    assert np.isnan(found["disjoint"]["difference"])
    assert found["some"]["why"].startswith("ours has the categories x alone")


def test_a_row_per_source_and_variant_is_drawn():
    runs = seeds(0.8, 0.9, variant="whole") + seeds(0.6, 0.7, variant="part", method="flow")
    source = source_of(runs, published(image_auroc="92.00", f1="96"), tiles="part")
    auroc, f1 = plot_claims(source, "tiles").figure.axes
    labels = [label.get_text() for label in auroc.get_yticklabels()]
    assert labels == ["paper", "whole\n(the first AE-FLOW)", "part\n(chosen by validation)"]
    dots = {line.get_marker(): line.get_xydata() for line in auroc.lines}
    assert dots["D"].tolist() == [[92, 0]]
    assert dots["o"].ravel() == pytest.approx([85, 1, 65, 2])
    assert f1.get_xlabel() == "F1 (%)"


def test_mistakes_in_the_file_are_named(tmp_path):
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
        (row.dataset, row.who, row.detail): [getattr(row, metric) for metric in COMPARED]
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
    table = source_of(seeds(0.8, 0.9, dataset="chest_xray"), given).table("claims")
    run = table["dataset"] == "chest_xray"
    assert len(table) == sum(value is not None for row in values.values() for value in row) == 36
    assert table["ours_mean"].notna().equals(run)
    assert (table["verdict"] == "not run").equals(~run)
