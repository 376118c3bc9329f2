"""What is said of failed jobs and of the cells that wait for them."""

from pathlib import Path
from typing import Any

from aeflow.questions.results import main_table
from aeflow.report.failures import NOT_RUN, describe, failed_results, failed_tables, why_failed

LOG = """2026-01-01 10:00:00 Traceback (most recent call last):
  File "x.py", line 1, in <module>
aeflow.core.errors.TrainingError: The loss is not finite in epoch 2: lower training.lr.
"""


def identity(variant: str, seed: int) -> dict[str, Any]:
    run = {"study": "s", "dataset": "d", "category": "01", "method": "aeflow", "encoder": "e"}
    return run | {"variant": variant, "seed": seed}


def test_the_reason_is_the_last_error_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text(LOG)
    assert why_failed(log) == "The loss is not finite in epoch 2: lower training.lr."
    log.write_text(LOG + "\nThe above exception was ...\nValueError: too few images\n")
    assert why_failed(log) == "too few images"
    log.write_text(
        "aeflow.core.errors.AccessError: MIIC has to be asked for.\n1. Go: to the page.\n"
    )
    assert why_failed(log) == "MIIC has to be asked for."


def test_a_killed_job_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    assert str(log) in why_failed(log)
    log.write_text("2026-01-01 10:00:00 resuming in epoch 2\n")
    assert str(log) in why_failed(log)


def test_a_cell_has_the_reason_of_the_step_that_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    step = {"rule": "train_model", "of": "d/01/a/0", "log": str(tmp_path / "a.log")}
    cells = [
        identity("a", 0) | {"steps": [0]},
        identity("a", 1) | {"steps": [0]},
        identity("b", 0) | {"steps": []},
    ]
    steps, missing = describe({"steps": [step], "cells": cells})
    assert [run["reason"] for run in missing] == [steps[0]["reason"]] * 2 + [NOT_RUN]
    (_, jobs), (_, shown) = failed_tables(steps, missing)
    assert jobs.cells.to_numpy().tolist() == [["train_model", "d/01/a/0", steps[0]["reason"]]]
    assert shown.cells.to_numpy().tolist() == [
        ["d", "01", "a", "0, 1", steps[0]["reason"]],
        ["d", "01", "b", "0", NOT_RUN],
    ]


def test_a_missing_seed_empties_the_variants_means() -> None:
    complete = dict.fromkeys(["best_epoch", "threshold_rule", "oracle_threshold"])
    numbers = (
        *("image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity"),
        *("threshold", "oracle_f1", "pixel_auroc", "aupro", "fit_seconds", "val_auroc"),
        *("peak_rss_mib", "n_train", "n_test_normal", "n_test_anomalous"),
    )
    complete |= dict.fromkeys(numbers, 1) | {"intervals": {}}
    metrics = [complete | identity(variant, seed) for variant, seed in (("a", 0), ("b", 0))]
    metrics.append(complete | identity("b", 1))
    metrics.insert(1, identity("a", 1) | {"reason": "Not run."})
    results = failed_results(metrics)
    assert results["reason"].tolist() == ["", "Not run.", "", ""]
    means = main_table(results).set_index("variant")
    assert means["n_seeds"].tolist() == [2, 2]
    assert means["image_auroc_mean"].isna().tolist() == [True, False]
    assert means["fit_seconds_mean"].isna().tolist() == [True, False]
