"""What was asked of a threshold beside what came out, a row per detector."""

import numpy as np

from tests.unit.questions.memory import Memory, make_run

SPECIFICITY = {
    **{"asked": "SPE 95 %", "n_fitted_normal": 40, "n_fitted_anomalous": 0},
    **{"val_sensitivity": None, "val_specificity": 0.95},
}
RUNS = (
    make_run(
        **{"specificity": 0.5, "threshold_rule": "specificity", "operating": SPECIFICITY},
        oracle_sensitivity_at_90=0.625,
        intervals={"specificity": [0.4, 0.6], "oracle_sensitivity_at_90": [0.5, 0.7]},
    ),
    make_run(seed=1),
    make_run(
        **{"variant": "flow", "method": "flow", "threshold_rule": None, "operating": {}},
        **{"sensitivity": None, "specificity": None, "threshold": None, "intervals": {}},
        reasons={"sensitivity": "There is no threshold."},
    ),
)


def test_a_row_per_run_with_what_was_asked_and_the_ends_of_each_interval():
    table = Memory(*RUNS).table("operating")
    assert table["seed"].tolist() == [0, 1, 0]
    first, second, last = table.to_dict("records")
    assert (first["asked"], first["n_fitted_normal"], first["val_specificity"]) == (
        *("SPE 95 %", 40, 0.95),
    )
    assert [first[f"specificity{end}"] for end in ("", "_low", "_high")] == [0.5, 0.4, 0.6]
    assert first["oracle_sensitivity_at_90_high"] == 0.7
    assert np.isnan(second["oracle_sensitivity_at_90"])
    assert (last["asked"], last["why"]) == ("", "There is no threshold.")


def test_people_see_asked_and_test_side_by_side_of_the_first_seed():
    shown = Memory(*RUNS).shown("operating")
    assert list(shown.cells) == [
        *("Dataset", "Category", "Variant", "Asked", "Of validation images"),
        *("SEN, test", "SPE, validation", "SPE, test", "SEN at 90 % SPE (oracle)", "Why empty"),
    ]
    first, last = shown.cells.to_dict("records")
    assert (first["Asked"], first["Of validation images"]) == ("SPE 95 %", "40 normal")
    assert (first["SPE, validation"], first["SPE, test"]) == ("95.0", "50.0 (40.0–60.0)")
    assert (first["SEN, test"], first["SEN at 90 % SPE (oracle)"]) == ("75.0", "62.5 (50.0–70.0)")
    assert last["Why empty"] == "There is no threshold."
    assert "operating.csv" in shown.note
    both = Memory(RUNS[1]).shown("operating")
    assert both.cells["Of validation images"].tolist() == ["20 normal, 10 anomalous"]
    assert "operating.csv" not in both.note
