import numpy as np
import pandas as pd
import pytest

from aeflow.questions.certainty import CERTAINTY_COLUMNS, certainty_display, certainty_table
from tests.unit.questions.memory import Memory, make_run, small_study

FUSIONS = [
    {"name": "aeflow"},
    {"name": "flow", "method": "flow"},
    {"name": "ensemble", "method": "fusion", "members": ["aeflow"]},
    {"name": "both", "method": "fusion", "members": ["aeflow", "flow"]},
]
FIRST = make_run(
    **{"category": "01", "variant": "ensemble", "method": "fusion", "image_auroc": 0.9, "f1": 0.8},
    **{"n_test_normal": 3, "n_test_anomalous": 5},
    certainty={
        **{"right_certain": 2, "wrong_certain": 1, "right_uncertain": 3, "wrong_uncertain": 2},
        **{"aurc": 0.3, "aurc_optimal": 0.1, "aurc_excess": 0.2, "member_auroc": [0.7, 0.8]},
    },
)
# No test image is uncertain.
SECOND = FIRST | {
    **{"category": "02", "image_auroc": 0.7, "f1": 1.0, "n_test_normal": 1, "n_test_anomalous": 1},
    "certainty": {
        **{"right_certain": 2, "wrong_certain": 0, "right_uncertain": 0, "wrong_uncertain": 0},
        **{"aurc": 0.0, "aurc_optimal": 0.0, "aurc_excess": 0.0, "member_auroc": [0.9, 0.6]},
    },
}
COUNTS = ["right_certain", "wrong_certain", "right_uncertain", "wrong_uncertain"]


def source_of(*runs, **content):
    study = small_study(variants=FUSIONS, seeds=[0, 1, 2], **content)
    return Memory(make_run(), *runs, study=study)


def rows_of(*runs):
    table = certainty_table(source_of(*runs))
    assert list(table.columns) == CERTAINTY_COLUMNS
    return table.to_dict("records")


def test_categories_are_averaged_and_counts_summed():
    (row,) = rows_of(FIRST, SECOND)
    assert (row["n_members"], row["n_categories"], row["n_test"]) == (3, 2, 10)
    assert [row[name] for name in COUNTS] == [4, 1, 3, 2]
    expected = {
        **{"image_auroc": 0.8, "f1": 0.9, "aurc": 0.15, "aurc_optimal": 0.05, "aurc_excess": 0.1},
        # Of the members' means over categories, 0.8 and 0.7.
        **{"member_auroc_lowest": 0.7, "member_auroc_highest": 0.8, "member_auroc_mean": 0.75},
        **{"error_rate": 0.3, "error_rate_certain": 0.2, "error_rate_uncertain": 0.4},
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["reason"] == ""
    (alone,) = rows_of(SECOND)
    assert np.isnan(alone["error_rate_uncertain"])
    assert alone["reason"] == "No test image is uncertain."


def test_a_fusion_of_variants_has_seeds_to_sum_over():
    runs = [run | {"variant": "both"} for run in (FIRST, FIRST | {"seed": 1, "image_auroc": 0.5})]
    (row,) = rows_of(*runs)
    assert (row["n_members"], row["n_seeds"], row["n_categories"], row["n_test"]) == (2, 2, 1, 16)
    assert [row[name] for name in COUNTS] == [4, 2, 6, 4]
    assert row["image_auroc"] == pytest.approx(0.7)
    source = source_of(*runs)
    shown = certainty_display(certainty_table(source), source)
    assert shown.cells["Seeds"].tolist() == ["2"]


@pytest.mark.parametrize("known", [{"member_auroc": []}, None])
def test_what_one_category_lacks_is_empty_with_a_reason(known):
    metrics = dict.fromkeys(("image_auroc", "f1", "n_test_normal", "n_test_anomalous"))
    reasons = {"image_auroc": "One class.", "certainty": "One class.", "aupro": "No masks."}
    nothing = known and dict.fromkeys(FIRST["certainty"]) | known
    source = source_of(FIRST, SECOND | metrics | {"certainty": nothing, "reasons": reasons})
    table = certainty_table(source)
    kept = ["dataset", "variant", "reason", "n_members", "n_seeds", "n_categories"]
    assert table.drop(columns=kept).isna().all(axis=None)
    shown = certainty_display(table, source)
    assert "AUROC" not in shown.cells
    assert shown.cells["Why empty"].tolist() == ["One class."]


def test_the_table_for_people():
    chest = [{"name": "tiles", "card": "chest_xray"}, {"name": "chest_xray"}]
    runs = [FIRST, FIRST | {"variant": "both", "image_auroc": 0.6}]
    source = source_of(*runs)
    table = certainty_table(source)
    shown = certainty_display(table, source)
    assert shown.cells["Members"].tolist() == ["3", "2"]
    assert shown.cells["Members, lowest to highest"].tolist() == ["70.0–80.0"] * 2
    assert shown.cells.loc[0, ["Right, certain", "Wrong, uncertain"]].tolist() == ["2", "2"]
    assert shown.cells.loc[0, "Errors of the certain"] == "33.3"
    assert shown.bold["AUROC"].tolist() == [True, False]
    assert "Seeds" not in shown.cells
    assert "198" not in shown.note
    note = certainty_display(table, source_of(*runs, datasets=chest[:1])).note
    for part in ("198", "192", "90", "144 of 624", f"{100 * 90 / 288:.1f} %"):
        assert part in note
    assert f"{100 * 144 / 336:.1f} %" in note
    assert f"{100 * 234 / 624:.1f} %" in note
    assert "198" not in certainty_display(table, source_of(datasets=chest[1:])).note


def test_without_a_fusion_there_is_a_sentence():
    source = source_of()
    table = certainty_table(source)
    assert isinstance(table, pd.DataFrame)
    assert "no ensemble" in certainty_display(table, source).note
