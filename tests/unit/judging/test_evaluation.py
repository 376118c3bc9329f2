"""The metrics of every variant of a score table, and the script that writes them."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from aeflow.core.receipts import write_receipt
from aeflow.judging.evaluation import judge_table
from aeflow.scoring.score_tables import write_scores
from aeflow.study.asked import JudgeAsked, VariantAsked
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from scripts.evaluate_scores import evaluate_scores

ROOT = Path(__file__).parents[3]
PIXEL = {"flow": {"pixel_auroc": 0.7, "aupro": 0.4}}
COMPONENTS = ("density", "nll", "ssim", "mse")
RANKED = {"image_auroc", "image_aupr", "oracle_f1"}
THRESHOLDED = {"f1", "accuracy", "sensitivity", "specificity"}
NO_MASKS = {"pixel_auroc", "aupro"}
READ = {f"oracle_{rate}_at_{at}" for rate in ("sensitivity", "specificity") for at in (90, 95)}
FEW_TO_READ = {"oracle_sensitivity_at_99", "oracle_specificity_at_99"}  # of 50 and 70 images
METRICS = (
    RANKED
    | THRESHOLDED
    | NO_MASKS
    | READ
    | FEW_TO_READ
    | {"threshold", "threshold_rule", "oracle_threshold", "val_auroc"}
)


def score_table(val_normal=60, val_anomalous=30, test_normal=50, test_anomalous=70, seed=0):
    """A table as it is read; anomalous images score one sd higher."""
    generator = np.random.default_rng(seed)
    counts = (val_normal, val_anomalous, test_normal, test_anomalous)
    kinds = [("validation", 0), ("validation", 1), ("test", 0), ("test", 1)]
    rows = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    table = pd.DataFrame(rows, columns=["split", "gt_label"]).astype({"gt_label": int})
    table.insert(0, "image_id", [f"image{k:04d}" for k in range(len(table))])
    defects = np.where(np.arange(len(table)) % 3 == 0, "crack", "hole")
    table["defect"] = np.where(table["gt_label"] == 1, defects, "good")
    for name in COMPONENTS:
        table[name] = generator.normal(size=len(table)) + table["gt_label"]
    return table


def variant(method="aeflow", threshold=None, encoder="lite0-stage3", anomaly_map="flow", **score):
    return VariantAsked(
        method=method,
        encoder=encoder,
        map=anomaly_map,
        score=ScoreSettings(**score),
        threshold=threshold or ThresholdSettings(),
    )


def judge(table, *variants, pixel=None, replicates=50, trainings=(), statistics=None):
    """What `judge_table` returns of variants called 0, 1, ..."""
    asked = JudgeAsked(
        variants={str(k): v for k, v in enumerate(variants)},
        evaluation=EvaluationSettings(bootstrap_replicates=replicates),
    )
    return judge_table(
        table, pixel or {}, asked, n_train=9, trainings=trainings, statistics=statistics
    )


def judge_one(table, chosen=None, **more):
    return judge(table, chosen or variant(), **more)["variants"]["0"]


def part(table, split):
    rows = table[table["split"] == split]
    return rows["gt_label"].to_numpy(), 0.9 * rows["density"] + 0.1 * rows["ssim"]


def test_every_metric_equals_scikit_learn():
    table = score_table()
    found = judge_one(table, pixel=PIXEL)
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
    assert set(found["intervals"]) == RANKED | THRESHOLDED | READ
    assert all(low <= found[name] <= high for name, (low, high) in found["intervals"].items())
    fpr, tpr, _ = sklearn_metrics.roc_curve(gt, s, drop_intermediate=False)
    assert found["oracle_sensitivity_at_95"] == tpr[fpr <= 0.05].max()
    assert found["operating"] == {
        **{"asked": "highest F1", "n_fitted_normal": 60, "n_fitted_anomalous": 30},
        "val_sensitivity": sklearn_metrics.recall_score(gt_val, s_val >= found["threshold"]),
        "val_specificity": pytest.approx((s_val[gt_val == 0] < found["threshold"]).mean()),
    }
    known = {*expected, "intervals", "operating", *READ, *FEW_TO_READ}
    rest = {name: found[name] for name in found if name not in known}
    assert set(rest["reasons"]) == FEW_TO_READ
    defect = table.loc[table["split"] == "test", "defect"]
    for name, judged in rest.pop("per_defect").items():
        rows = (gt == 0) | (defect == name)
        assert judged["n"] == (defect == name).sum() > 0
        auroc = sklearn_metrics.roc_auc_score(gt[rows], s[rows])
        assert judged["image_auroc"] == pytest.approx(auroc)
    assert rest == {
        **{"method": "aeflow", "encoder": "lite0-stage3", "threshold_rule": "f1_max"},
        **{"reasons": rest["reasons"], "warnings": [], "certainty": None},
    }


def test_what_the_variants_of_a_table_share():
    table = score_table()
    trainings = [
        {"fit_seconds": 1.5, "best_epoch": 7, "peak_rss_mib": 900.5},
        {"fit_seconds": 2.0, "best_epoch": None, "peak_rss_mib": None},
    ]
    found = judge(table, variant(), trainings=trainings)
    for name, aurocs in found.pop("components").items():
        for split, key in (("validation", "val_auroc"), ("test", "test_auroc")):
            rows = table[table["split"] == split]
            auroc = sklearn_metrics.roc_auc_score(rows["gt_label"], rows[name])
            assert aurocs[key] == pytest.approx(auroc)
    del found["variants"]
    counts = {"val_normal": 60, "val_anomalous": 30, "test_normal": 50, "test_anomalous": 70}
    cost = {"fit_seconds": 3.5, "best_epoch": None, "peak_rss_mib": 900.5}
    assert found == {"n_train": 9, **{f"n_{kind}": n for kind, n in counts.items()}, **cost}
    assert judge(table, variant(), trainings=trainings[:1])["best_epoch"] == 7


def test_every_variant_is_judged_as_if_it_were_alone():
    table = score_table().assign(padim=np.arange(210.0), low_gradient=-np.arange(210.0))
    quantile = ThresholdSettings(rule="specificity", specificity=0.9)
    variants = [
        variant(),
        variant(beta=0.2, flow="nll", scaling="standardised"),
        variant(threshold=quantile),
        variant("padim", anomaly_map="padim"),  # a peer has its own column and map
        variant("gradient", anomaly_map=None),
        variant("autoencoder", anomaly_map="difference"),
    ]
    pixel = {"padim": {"pixel_auroc": 0.6, "aupro": 0.3}, "difference": {"pixel_auroc": 0.5}}
    found = judge(table, *variants, pixel=pixel)["variants"]
    assert list(found) == list("012345")
    for judged, chosen in zip(found.values(), variants, strict=True):
        assert judged == judge_one(table, chosen, pixel=pixel)
    assert [judged["pixel_auroc"] for judged in found.values()] == [None] * 3 + [0.6, None, 0.5]
    assert (found["3"]["image_auroc"], found["4"]["image_auroc"]) == (1, 0)
    assert "the map was not made" in found["0"]["reasons"]["aupro"]
    assert found["1"]["f1"] != found["0"]["f1"] != found["2"]["f1"]
    flow = judge_one(table, variant("flow", map="difference"), pixel=PIXEL)
    assert flow["aupro"] == 0.4  # of the map that the study found, whatever was configured


@pytest.mark.parametrize("rule", ["f1_max", "youden", "cost", "sensitivity", "specificity"])
@pytest.mark.parametrize("method", ["aeflow", "fusion"])
def test_nothing_that_is_fitted_sees_test_labels_or_scores(rule, method):
    table, generator = score_table(), np.random.default_rng(1)
    chosen = variant(method, ThresholdSettings(rule=rule), scaling="standardised")
    before = judge_one(table, chosen)
    test = table["split"] == "test"
    for change in ("labels", "scores"):
        changed = table.copy()
        if change == "labels":
            changed.loc[test, "gt_label"] = generator.permutation(changed.loc[test, "gt_label"])
        else:
            changed.loc[test, list(COMPONENTS)] += 100.0
        after = judge_one(changed, chosen)
        for name in ("threshold", "threshold_rule", "val_auroc"):
            assert after[name] == before[name]
        assert after["oracle_threshold"] != before["oracle_threshold"]


@pytest.mark.parametrize(
    ("counts", "undefined", "sentence"),
    [
        ({"test_anomalous": 0}, RANKED | THRESHOLDED, "Test has no anomalous images."),
        ({"test_normal": 0}, RANKED | THRESHOLDED, "Test has no normal images."),
        ({"test_normal": 0, "test_anomalous": 0}, RANKED | THRESHOLDED, "Test has no images."),
        ({"val_anomalous": 0}, {"val_auroc"}, "Validation has no anomalous images."),
        (
            {"val_normal": 0},
            THRESHOLDED | {"threshold", "threshold_rule", "val_auroc"},
            "normal",  # validation images, of which there are none
        ),
    ],
)
def test_metrics_that_cannot_be_computed_are_none_with_a_reason(counts, undefined, sentence):
    if "image_auroc" in undefined:
        undefined = undefined | {"oracle_threshold"} | READ | FEW_TO_READ
    table = score_table(**counts)
    result = judge(table, variant(), replicates=5)
    json.dumps(result, allow_nan=False)
    found = result["variants"]["0"]
    none = {name for name in METRICS if found[name] is None}
    assert none == undefined | NO_MASKS | FEW_TO_READ == set(found["reasons"])
    assert all(sentence in found["reasons"][name] for name in undefined)
    assert found["reasons"]["aupro"].startswith("There are no pixel masks")
    assert set(found["intervals"]) == (RANKED | THRESHOLDED | READ) - none
    for key in ("val_auroc", "test_auroc"):
        lacks = ("val_auroc" if key == "val_auroc" else "image_auroc") in none
        assert (result["components"]["nll"][key] is None) == lacks


def test_an_empty_table_has_reasons_alone():
    table = score_table(0, 0, 0, 0)
    found = judge_one(table)
    assert all(found[name] is None for name in METRICS)
    assert (found["per_defect"], found["intervals"]) == ({}, {})
    told = ["A threshold needs normal validation images, there are none"]
    assert [warning.partition(":")[0] for warning in found["warnings"]] == told
    # Missing test images explain more than a missing threshold.
    assert found["reasons"]["f1"] == "Test has no images."
    assert "there are none: raise" in found["reasons"]["threshold"]


def test_a_score_that_cannot_be_combined_spares_the_other_variants():
    table = score_table().assign(mse=0.1)
    constant = {"reconstruction": "mse", "scaling": "standardised"}
    found = judge(table, variant(**constant), variant(), variant("fusion"))["variants"]
    reason = "The component 'mse' is 0.1 on all 60 validation normals, so it has no scale"
    for name in "02":
        assert all(found[name][metric] is None for metric in METRICS)
        assert set(found[name]["reasons"]) == METRICS
        assert found[name]["reasons"]["f1"].startswith(reason)
        assert found[name]["warnings"][0].startswith(reason)
    assert found["2"]["certainty"]["aurc"] is None
    assert found["1"] == judge_one(table)


def test_warnings_are_told_once_and_stand_with_their_variants(caplog):
    table = score_table(val_normal=12, val_anomalous=0).assign(mse=3.0)
    variants = [variant(), variant(beta=0.5), variant(beta=0, reconstruction="mse")]
    with caplog.at_level(logging.WARNING):
        found = judge(table, *variants, replicates=0)["variants"].values()
    few = "The threshold is the 0.95 quantile of 12 validation normals"
    assert [len(judged["warnings"]) for judged in found] == [1, 1, 2]
    assert all(judged["warnings"][0].startswith(few) for judged in found)
    assert {judged["threshold_rule"] for judged in found} == {"specificity"}
    same = "Every image has the score 3: there is nothing to rank by."
    assert [record.getMessage()[: len(few)] for record in caplog.records] == [few, same]


def test_a_fusion_says_whether_it_is_certain():
    table = score_table()
    found = judge_one(table, variant("fusion", encoder=None))
    normal = (table["split"] == "validation") & (table["gt_label"] == 0)
    members = stats.zmap(table[list(COMPONENTS)], table.loc[normal, list(COMPONENTS)])
    test = (table["split"] == "test").to_numpy()
    gt = table.loc[test, "gt_label"]
    score, spread = members.mean(axis=1), members.std(axis=1, ddof=1)
    wrong = (score[test] >= found["threshold"]) != gt
    certain = spread[test] <= np.median(spread[~test])
    sure = found["certainty"]
    assert (sure["wrong_certain"], sure["wrong_uncertain"]) == (
        (wrong & certain).sum(),
        (wrong & ~certain).sum(),
    )
    assert sure["error_rate"] == pytest.approx(1 - found["accuracy"])
    aurocs = [sklearn_metrics.roc_auc_score(gt, table.loc[test, name]) for name in COMPONENTS]
    assert sure["member_auroc"] == pytest.approx(aurocs)
    order = np.argsort(spread[test])
    risk = wrong.to_numpy()[order].cumsum() / np.arange(1, len(order) + 1)
    assert sure["aurc"] == pytest.approx(risk.mean())
    assert found["reasons"].keys() == NO_MASKS | FEW_TO_READ
    tied = table.assign(**{name: table[name].round() for name in COMPONENTS})
    tied = judge_one(tied, variant("fusion"))  # a score at the threshold is anomalous here too
    assert tied["certainty"]["error_rate"] == pytest.approx(1 - tied["accuracy"])
    few = judge_one(score_table(val_normal=0), variant("fusion"))
    assert few["certainty"]["member_auroc"] == []
    same = judge_one(
        table[["image_id", "split", "gt_label", "defect"]].assign(a=table["nll"], b=table["nll"]),
        variant("fusion"),
    )
    assert same["certainty"]["error_rate_certain"] == same["certainty"]["error_rate"]
    assert same["reasons"]["error_rate_uncertain"] == "No test image is uncertain."
    lacking = judge_one(score_table(test_normal=0), variant("fusion"))
    assert lacking["reasons"]["certainty"] == "Test has no normal images."


def test_complexity_is_taken_out_where_asked_for():
    table = score_table()
    statistics = table.iloc[::-1].rename(
        columns={"nll": "compressed_bits", "mse": "high_gradient"}
    )
    plain, corrected = judge(
        table,
        variant("flow", flow="nll"),
        variant("flow", flow="nll", correct="complexity"),
        statistics=statistics,
    )["variants"].values()
    assert plain["image_auroc"] > 0.6
    assert (corrected["image_auroc"], corrected["warnings"][0][:34]) == (
        0.5,
        "Every image has the score 0: there",
    )


@pytest.fixture
def files(tmp_path):
    """Paths of the script's arguments."""
    paths = {name: tmp_path / f"{name}.json" for name in ("scored", "prepared", "trained")}
    facts = {
        "scored": {"pixel": PIXEL},
        "prepared": {"counts": {"train": 345}},
        "trained": {
            **{"fit_seconds": 12.5, "best_epoch": 7, "peak_rss_mib": 900.5, "n_train": 40},
        },
    }
    for name, path in paths.items():
        write_receipt(path, made={}, origin={}, settings={}, facts=facts[name])
    paths["scores"] = tmp_path / "scores.csv"
    write_scores(paths["scores"], score_table())
    return paths


def test_the_script_reads_the_table_and_the_receipts(files):
    asked = JudgeAsked(variants={"v": variant()}, evaluation=EvaluationSettings())
    files["trained"] = [files["trained"]]
    found = evaluate_scores(asked, **files, statistics=None)
    assert found["variants"]["v"]["pixel_auroc"] == 0.7
    assert (found["n_train"], found["fit_seconds"], found["best_epoch"]) == (40, 12.5, 7)
    files["trained"] = []
    corrected = variant("gradient", gradient="high_gradient", correct="complexity")
    table = score_table().rename(columns={"nll": "compressed_bits", "mse": "high_gradient"})
    write_scores(files["scores"], table)
    asked = JudgeAsked(variants={"g": corrected}, evaluation=EvaluationSettings())
    found = evaluate_scores(asked, **files, statistics=files["scores"])
    assert (found["fit_seconds"], found["best_epoch"], found["peak_rss_mib"]) == (0, None, None)
    assert found["n_train"] == 345  # where nothing is fitted, all that are there
    assert found["variants"]["g"]["image_auroc"] == 0.5  # a measure explains itself


def test_judging_starts_without_torch_and_scipy():
    code = "import scripts.evaluate_scores, scripts.fuse_scores, aeflow.scoring.predictions, sys; "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'matplotlib')))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import aeflow.judging.delong, sys; sys.exit('scipy.stats' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
