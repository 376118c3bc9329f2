"""The metrics of a score table, and the script that writes them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.types import Method
from aeflow.judging.evaluation import evaluate_scores
from aeflow.scoring.score_tables import check_scores, write_scores
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from scripts.evaluate_scores import main

ROOT = Path(__file__).parents[2]
PIXEL = {"flow": {"pixel_auroc": 0.7, "aupro": 0.4}}
COMPONENTS = ("density", "nll", "ssim", "mse")
METRICS = (
    *("image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity"),
    *("threshold", "threshold_rule", "oracle_f1", "oracle_threshold", "val_auroc"),
    *("pixel_auroc", "aupro"),
)
WITH_INTERVAL = (
    *("image_auroc", "image_aupr", "oracle_f1"),
    *("f1", "accuracy", "sensitivity", "specificity"),
)


def score_table(val_normal=60, val_anomalous=30, test_normal=50, test_anomalous=70, seed=0):
    """A table as score_images writes it; anomalous images score one sd higher."""
    generator = np.random.default_rng(seed)
    rows = [
        (split, label)
        for split, label, count in (
            ("validation", 0, val_normal),
            ("validation", 1, val_anomalous),
            ("test", 0, test_normal),
            ("test", 1, test_anomalous),
        )
        for _ in range(count)
    ]
    table = pd.DataFrame(rows, columns=["split", "gt_label"])
    table.insert(0, "image_id", [f"image{k:04d}" for k in range(len(table))])
    defects = np.where(np.arange(len(table)) % 3 == 0, "crack", "hole")
    table["defect"] = np.where(table["gt_label"] == 1, defects, "good")
    for name in COMPONENTS:
        table[name] = generator.normal(size=len(table)) + table["gt_label"]
    return table


def evaluate(table, pixel=None, method=Method.AEFLOW, threshold=None, replicates=50, **score):
    return evaluate_scores(
        table,
        pixel or {},
        method=method,
        score=ScoreSettings(**score),
        threshold=threshold or ThresholdSettings(),
        evaluation=EvaluationSettings(bootstrap_replicates=replicates),
    )


def part(table, split):
    rows = table[table["split"] == split]
    return rows["gt_label"].to_numpy(), 0.9 * rows["density"] + 0.1 * rows["ssim"]


def test_every_metric_equals_scikit_learn():
    table = score_table()
    found = evaluate(table, PIXEL)
    gt_val, s_val = part(table, "validation")
    gt, s = part(table, "test")
    f1_val = {t: sklearn_metrics.f1_score(gt_val, s_val >= t) for t in s_val}
    f1_test = {t: sklearn_metrics.f1_score(gt, s >= t) for t in s}
    called = s >= found["threshold"]
    expected = {
        "image_auroc": sklearn_metrics.roc_auc_score(gt, s),
        "image_aupr": sklearn_metrics.average_precision_score(gt, s),
        "threshold": max(f1_val, key=f1_val.get),
        "f1": sklearn_metrics.f1_score(gt, called),
        "accuracy": sklearn_metrics.accuracy_score(gt, called),
        "sensitivity": sklearn_metrics.recall_score(gt, called),
        "specificity": sklearn_metrics.recall_score(gt, called, pos_label=0),
        "oracle_f1": max(f1_test.values()),
        "oracle_threshold": max(f1_test, key=f1_test.get),
        "val_auroc": sklearn_metrics.roc_auc_score(gt_val, s_val),
        "pixel_auroc": 0.7,
        "aupro": 0.4,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["threshold_rule"] == "f1_max"
    assert found["reasons"] == {}
    assert np.trapezoid(found["roc"]["tpr"], found["roc"]["fpr"]) == pytest.approx(
        expected["image_auroc"]
    )
    counts = ("n_val_normal", "n_val_anomalous", "n_test_normal", "n_test_anomalous")
    assert [found[name] for name in counts] == [60, 30, 50, 70]
    assert set(found["intervals"]) == set(WITH_INTERVAL)
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high


def test_components_and_defects():
    table = score_table()
    found = evaluate(table)
    assert set(found["components"]) == set(COMPONENTS)
    for name, aurocs in found["components"].items():
        for split, key in (("validation", "val_auroc"), ("test", "test_auroc")):
            rows = table[table["split"] == split]
            assert aurocs[key] == pytest.approx(
                sklearn_metrics.roc_auc_score(rows["gt_label"], rows[name])
            )
    gt, s = part(table, "test")
    defect = table.loc[table["split"] == "test", "defect"]
    assert set(found["per_defect"]) == {"crack", "hole"}
    for name, judged in found["per_defect"].items():
        rows = (gt == 0) | (defect == name)
        assert judged["n"] == (defect == name).sum()
        assert judged["image_auroc"] == pytest.approx(
            sklearn_metrics.roc_auc_score(gt[rows], s[rows])
        )


@pytest.mark.parametrize("rule", ["f1_max", "normal_quantile"])
@pytest.mark.parametrize("scaling", ["raw", "standardised"])
def test_nothing_that_is_fitted_sees_test_labels_or_scores(rule, scaling):
    table = score_table()
    settings = {"threshold": ThresholdSettings(rule=rule), "scaling": scaling}
    before = evaluate(table, **settings)
    generator = np.random.default_rng(1)
    test = table["split"] == "test"
    for change in ("labels", "scores"):
        changed = table.copy()
        if change == "labels":
            changed.loc[test, "gt_label"] = generator.permutation(changed.loc[test, "gt_label"])
        else:
            changed.loc[test, list(COMPONENTS)] += 100.0
        after = evaluate(changed, **settings)
        for name in ("threshold", "threshold_rule", "val_auroc"):
            assert after[name] == before[name]
        assert after["oracle_threshold"] != before["oracle_threshold"]


def test_standardised_scores_are_invariant_to_the_units_of_a_component():
    table = score_table()
    rescaled = table.assign(density=1e4 * table["density"] - 7)
    before, after = (evaluate(t, scaling="standardised") for t in (table, rescaled))
    assert after["image_auroc"] == before["image_auroc"]
    assert after["f1"] == before["f1"]
    assert evaluate(rescaled)["image_auroc"] != evaluate(table)["image_auroc"]


def test_map_of_the_settings_is_reported():
    pixel = {
        "flow": {"pixel_auroc": 0.7, "aupro": 0.4},
        "difference": {"pixel_auroc": 0.6, "aupro": None},
    }
    found = evaluate(score_table(), pixel, map="difference")
    assert (found["pixel_auroc"], found["aupro"]) == (0.6, None)
    assert set(found["reasons"]) == {"aupro"}


NO_TEST = {"image_auroc", "image_aupr", "oracle_f1", "oracle_threshold"}
THRESHOLDED = {"f1", "accuracy", "sensitivity", "specificity"}
NO_MASKS = {"pixel_auroc", "aupro"}


@pytest.mark.parametrize(
    ("counts", "undefined", "sentence"),
    [
        ({"test_anomalous": 0}, NO_TEST | THRESHOLDED, "Test has no anomalous images."),
        ({"test_normal": 0}, NO_TEST | THRESHOLDED, "Test has no normal images."),
        ({"test_normal": 0, "test_anomalous": 0}, NO_TEST | THRESHOLDED, "Test has no images."),
        ({"val_anomalous": 0}, {"val_auroc"}, "Validation has no anomalous images."),
        (
            {"val_normal": 1},
            THRESHOLDED | {"threshold", "threshold_rule"},
            "A threshold needs 2 or more normal validation images, there are 1",
        ),
    ],
)
def test_metrics_that_cannot_be_computed_are_none_with_a_reason(counts, undefined, sentence):
    found = evaluate(score_table(**counts))
    none = {name for name in METRICS if found[name] is None}
    assert none == undefined | NO_MASKS == set(found["reasons"])
    for name in undefined:
        assert sentence in found["reasons"][name]
    assert found["reasons"]["aupro"].startswith("There are no pixel masks")
    assert set(found["intervals"]) == set(WITH_INTERVAL) - none
    json.dumps(found, allow_nan=False)


def test_missing_test_images_explain_more_than_a_missing_threshold():
    reasons = evaluate(score_table(val_normal=1, test_normal=0))["reasons"]
    assert reasons["f1"] == "Test has no normal images."
    assert "there are 1" in reasons["threshold"]


def test_fallback_of_the_threshold_is_recorded():
    table = score_table(val_anomalous=0)
    found = evaluate(table)
    assert found["threshold_rule"] == "normal_quantile"
    assert found["threshold"] == pytest.approx(np.quantile(part(table, "validation")[1], 0.95))


def test_empty_validation_and_test():
    found = evaluate(score_table(0, 0, 0, 0))
    assert all(found[name] is None for name in METRICS)
    assert found["roc"] == {"fpr": [], "tpr": []}
    assert found["per_defect"] == {}


def test_result_of_624_images_with_1000_replicates_is_plain_json():
    found = evaluate(score_table(202, 200, 234, 390), replicates=1000)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_peer_has_its_own_column_and_map():
    table = score_table()
    table["padim"] = np.arange(len(table), dtype=float)  # test anomalies are the last rows
    pixel = {"padim": {"pixel_auroc": 0.6, "aupro": 0.3}}
    found = evaluate(table, pixel, method=Method.PADIM, map="difference")
    assert (found["image_auroc"], found["pixel_auroc"], found["aupro"]) == (1, 0.6, 0.3)
    assert found["reasons"] == {}
    without = evaluate(table, PIXEL, method=Method.PADIM)
    assert without["aupro"] is None
    assert "the map was not made" in without["reasons"]["aupro"]


def test_gradient_method_scores_by_its_column():
    table = score_table().drop(columns=list(COMPONENTS))
    table["low_gradient"] = np.arange(len(table), dtype=float)  # test anomalies are the last rows
    table["high_gradient"] = -table["low_gradient"]
    assert evaluate(table, method=Method.GRADIENT)["image_auroc"] == 1
    assert evaluate(table, method=Method.GRADIENT, gradient="high_gradient")["image_auroc"] == 0


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("split", "train", "'image0004' is not of validation or test"),
        ("gt_label", 2, "'image0004' has a label other than 0 and 1"),
        ("image_id", "image0002", "'image0002' stands there twice"),
        ("mse", np.nan, "'image0004' has mse = nan"),
    ],
)
def test_wrong_rows_are_named(column, value, message):
    table = score_table()
    table.loc[4, column] = value
    with pytest.raises(DataError, match=message):
        evaluate(table)


def test_missing_columns_are_named():
    with pytest.raises(DataError, match="no column gt_label, defect"):
        check_scores(score_table().drop(columns=["gt_label", "defect"]))


@pytest.fixture
def files(tmp_path):
    """Arguments of the script and the files they name."""
    scores, scored = tmp_path / "scores.csv", tmp_path / "scored.json"
    write_scores(scores, scored, score_table().assign(low_gradient=0.5), PIXEL)
    contents = {
        "train": {"fit_seconds": 12.5, "best_epoch": 7, "seed": 3, "peak_rss_mib": 900.5},
        "prepared": {"counts": {"train": 345}},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    identity = {"study": "s", "dataset": "d", "category": "all", "variant": "v", "seed": 3}
    return {
        "scores": scores,
        "scored": scored,
        "train": tmp_path / "train.json",
        "prepared": tmp_path / "prepared.json",
        "identity": json.dumps({**identity, "method": "aeflow", "encoder": "e"}),
        "settings": json.dumps(
            {"score": {}, "threshold": {}, "evaluation": {"bootstrap_replicates": 20}}
        ),
        "metrics": tmp_path / "out" / "metrics.json",
    }


def command_line(files):
    return [text for name, value in files.items() for text in (f"--{name}", str(value))]


def test_script_adds_identity_training_and_settings(files):
    main(command_line(files))
    written = json.loads(files["metrics"].read_text())
    evaluated = evaluate(
        score_table().assign(low_gradient=0.5),
        {"flow": {"pixel_auroc": 0.7, "aupro": 0.4}},
        replicates=20,
    )
    assert {name: written[name] for name in evaluated} == evaluated
    rest = {name: value for name, value in written.items() if name not in evaluated}
    settings = rest.pop("settings")
    assert rest == {
        **json.loads(files["identity"]),
        "n_train": 345,
        "fit_seconds": 12.5,
        "best_epoch": 7,
        "peak_rss_mib": 900.5,
        "scores_sha256": sha256_file(files["scores"]),
    }
    assert settings["score"]["beta"] == 0.9
    assert settings["evaluation"]["bootstrap_replicates"] == 20


def test_script_for_the_gradient_needs_no_training(files):
    del files["train"]
    with pytest.raises(SystemExit):  # the method is still aeflow
        main(command_line(files))
    files["identity"] = files["identity"].replace("aeflow", "gradient")
    main(command_line(files))
    written = json.loads(files["metrics"].read_text())
    assert (written["fit_seconds"], written["best_epoch"]) == (0.0, None)
    assert written["image_auroc"] == 0.5  # a constant score


def test_script_names_a_wrong_key(files):
    files["settings"] = '{"score": {"betta": 1}, "threshold": {}, "evaluation": {}}'
    with pytest.raises(ConfigError, match="did you mean 'beta'"):
        main(command_line(files))


def test_evaluation_starts_without_torch():
    modules = ("scoring.combine", "judging.metrics", "scoring.pixel_metrics", "judging.evaluation")
    code = "; ".join(f"import aeflow.{name}" for name in modules)
    code += "; import scripts.evaluate_scores, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
