"""The demo as `make demo` made it."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from aeflow.report.contents import TABLES, figures
from aeflow.study.study import read_study
from tests.workflow.conftest import ROOT, Repository

COLUMNS = [
    *["dataset", "category", "variant", "method", "encoder", "seed"],
    *["image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity", "threshold"],
    *["oracle_f1", "pixel_auroc", "aupro", "n_train", "n_test_normal", "n_test_anomalous"],
    "fit_seconds",
]


@pytest.fixture(scope="module")
def results(demo: Repository) -> pd.DataFrame:
    return pd.read_csv(demo.results("demo") / "tables/results.csv")


def test_every_promised_file_is_there(demo: Repository, results: pd.DataFrame) -> None:
    folder = demo.results("demo")
    study = json.loads((folder / "study.json").read_text())
    assert study["training"]["epochs"] == 20
    for row in results[~results["variant"].str.contains("_beta|_correct|depth4")].itertuples():
        cell = f"demo_textures/{row.category}/{row.variant}/seed{row.seed}"
        scores = pd.read_csv(folder / f"scores/{cell}.csv")
        assert list(scores.columns[:4]) == ["image_id", "split", "gt_label", "defect"]
        assert (folder / f"metrics/{cell}.json").is_file()
    for name in TABLES:
        for ending in ("csv", "md", "tex"):
            assert (folder / f"tables/{name}.{ending}").stat().st_size > 0
    drawn = figures(read_study(folder / "study.json"))
    assert ("panels", "demo_textures+brick+aeflow") in drawn
    for name, of in drawn:
        for ending in ("svg", "png", "pdf"):
            assert (folder / f"figures/{name}-{of}.{ending}").stat().st_size > 0
    report = (folder / "report.html").read_text()
    assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:css|js|png|svg)', report)


def test_the_result_table_has_the_contracts_columns(results: pd.DataFrame) -> None:
    assert list(results.columns[: len(COLUMNS)]) == COLUMNS
    assert set(results["category"]) == {"brick", "gravel"}
    assert (results["n_test_anomalous"] > 0).all()
    ours = results[results["method"] == "aeflow"]
    assert ours[["pixel_auroc", "aupro"]].notna().to_numpy().all()
    assert (results["threshold_rule"] == "specificity").all(), "there are no anomalies to fit"


def test_the_tutorials_table(demo: Repository) -> None:
    """To half a point: other processors add in another order."""
    main = pd.read_csv(demo.results("demo") / "tables/main.csv").set_index("variant")
    table = re.search(r"^\| Variant .*\n(\|.*\n)+", (ROOT / "docs/tutorial.md").read_text(), re.M)
    assert table
    rows = re.findall(r"^\| (\w+) \| \**([\d.]+)", table[0], re.M)
    told = {name: float(auroc) for name, auroc in rows if name in main.index}
    assert told.keys() == set(main.index[~main.index.str.contains("_beta|_correct|_depth")])
    for name, auroc in told.items():
        assert 100 * main.loc[name, "image_auroc_mean"] == pytest.approx(auroc, abs=0.5), name


def test_main_is_the_mean_over_categories_then_seeds(
    demo: Repository, results: pd.DataFrame
) -> None:
    main = pd.read_csv(demo.results("demo") / "tables/main.csv").set_index("variant")
    per_seed = results[results["variant"] == "aeflow"].groupby("seed")["image_auroc"].mean()
    assert main.loc["aeflow", "image_auroc_mean"] == pytest.approx(per_seed.mean())
    assert main.loc["aeflow", "image_auroc_sd"] == pytest.approx(per_seed.std())


def test_what_was_a_wing_of_its_own_is_a_variant(demo: Repository) -> None:
    tables = demo.results("demo") / "tables"
    weighting = pd.read_csv(tables / "weighting.csv")
    assert set(weighting["scaling"]) == {"raw", "standardised"}
    assert weighting["beta_mean"].isna().all(), "there are no validation anomalies to choose by"
    assert weighting["oracle_test_auroc_mean"].notna().all()
    certainty = pd.read_csv(tables / "certainty.csv").set_index("variant")
    assert list(certainty.index) == ["aeflow_ensemble"]
    assert certainty["n_members"].tolist() == [2]
    counted = certainty.filter(regex="^(right|wrong)_").sum(axis=1)
    assert (counted == certainty["n_test"]).all()
    depth = pd.read_csv(tables / "ablations.csv").set_index(["ablation", "value"])
    assert depth.loc["depth", "trained_as"].to_dict() == {"1": "aeflow_depth1", "4": "aeflow"}
    assert not depth.loc[("correct", "complexity"), "is_default"]


def test_a_second_run_has_nothing_to_do(demo: Repository) -> None:
    plan = demo.plan(overlay="config/demo.yaml")
    assert plan == {}, "settings or code have changed since: `make demo`"


def test_what_git_gets_is_compared_by_content(demo: Repository) -> None:
    """Not by time, which git does not keep: Snakemake does so below a size."""
    profile = yaml.safe_load((demo.folder / "profiles/default/config.yaml").read_text())
    limit = int(profile["max-checksum-file-size"].removesuffix("MB")) * 1_000_000
    small = [p for p in demo.results("demo").rglob("*") if p.is_file()]
    small = [p for p in small if not {"models", "galleries", "detectors"} & set(p.parts)]
    assert len(small) > 100
    assert max(path.stat().st_size for path in small) < limit / 10


def test_a_trained_model_says_what_made_it(demo: Repository) -> None:
    cell = "demo_textures/brick/aeflow/seed0"
    receipt = json.loads((demo.results("demo") / f"train/{cell}.json").read_text())
    assert receipt["settings"]["settings"]["flow"]["steps"] == 4
    assert {"torch", "python", "aeflow"} <= receipt["versions"].keys()
    made = {Path(name).suffix: len(sha256) for name, sha256 in receipt["made"].items()}
    assert made == {".safetensors": 64, ".csv": 64}
    assert len(receipt["from"]) == 4, "images, index, features, weights: no mask"
