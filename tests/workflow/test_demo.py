"""The demo as a newcomer runs it."""

import json
import re

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import Repository

COLUMNS = [
    "dataset",
    "category",
    "variant",
    "method",
    "encoder",
    "seed",
    "image_auroc",
    "image_aupr",
    "f1",
    "accuracy",
    "sensitivity",
    "specificity",
    "threshold",
    "oracle_f1",
    "pixel_auroc",
    "aupro",
    "n_train",
    "n_test_normal",
    "n_test_anomalous",
    "fit_seconds",
]


@pytest.fixture(scope="module")
def results(demo: Repository) -> pd.DataFrame:
    return pd.read_csv(demo.results("demo") / "tables/results.csv")


def test_every_promised_file_is_there(demo: Repository, results: pd.DataFrame) -> None:
    folder = demo.results("demo")
    for row in results.itertuples():
        cell = f"demo_textures/{row.category}/{row.variant}/seed{row.seed}"
        # An ablation's value that aeflow has already shares its score table.
        scores = pd.read_csv(folder / f"scores/{cell.replace('aeflow_depth4', 'aeflow')}.csv")
        assert list(scores.columns[:4]) == ["image_id", "split", "gt_label", "defect"]
        assert (folder / f"metrics/{cell}.json").is_file()
    judged = ("main", "comparison", "choice", "categories")
    listed = [f"{name}.{ending}" for name in judged for ending in ("csv", "md", "tex")]
    for name in (*listed, "results.md", "results.tex"):
        assert (folder / "tables" / name).stat().st_size > 0
    for name in ("ablations", "complexity", "complexity_corrected", "defects"):
        for ending in ("csv", "md", "tex"):
            assert (folder / f"tables/{name}.{ending}").stat().st_size > 0
    for name in ("ablations", "complexity", "defects"):
        assert (folder / f"figures/{name}-demo_textures.svg").is_file()
    for name in ("variants-demo_textures", "categories-demo_textures"):
        assert (folder / f"figures/{name}.svg").is_file()
    figures = {path.suffix for path in (folder / "figures").iterdir()}
    assert figures == {".png", ".svg"}
    report = (folder / "report.html").read_text()
    assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:css|js|png|svg)', report)


def test_the_result_table_has_the_contracts_columns(results: pd.DataFrame) -> None:
    assert list(results.columns[: len(COLUMNS)]) == COLUMNS
    assert set(results["category"]) == {"brick", "gravel"}
    assert (results["n_test_anomalous"] > 0).all()
    assert (
        results.loc[results["method"] == "aeflow", ["pixel_auroc", "aupro"]]
        .notna()
        .to_numpy()
        .all()
    )
    assert (results["threshold_rule"] == "normal_quantile").all(), "there are no anomalies to fit"


def test_a_working_model_is_told_from_a_trivial_one(results: pd.DataFrame) -> None:
    mean = results.groupby(["method", "category"])["image_auroc"].mean()
    assert mean["aeflow"].max() > 0.95
    assert mean["gradient"].max() < 0.85
    aeflow = results[results["method"] == "aeflow"].set_index("category")
    assert aeflow["pixel_auroc"].max() > 0.9


def test_main_is_the_mean_over_categories_then_seeds(
    demo: Repository, results: pd.DataFrame
) -> None:
    main = pd.read_csv(demo.results("demo") / "tables/main.csv").set_index("variant")
    per_seed = results[results["variant"] == "aeflow"].groupby("seed")["image_auroc"].mean()
    assert main.loc["aeflow", "image_auroc_mean"] == pytest.approx(per_seed.mean())
    assert main.loc["aeflow", "image_auroc_sd"] == pytest.approx(per_seed.std())


def test_analyses_of_stored_scores_are_made(demo: Repository) -> None:
    tables, figures = (demo.results("demo") / name for name in ("tables", "figures"))
    weighting = pd.read_csv(tables / "weighting.csv")
    assert set(weighting["variant"]) == {"aeflow"}
    assert len(weighting) == 5 * 2 * 2
    assert weighting["beta_mean"].isna().all(), "there are no validation anomalies to choose by"
    assert set(weighting["reason"]) == {"Validation has no anomalous images."}
    assert weighting["oracle_test_auroc_mean"].notna().all()
    assert len(pd.read_csv(tables / "weighting_sweep.csv")) == 5 * 2 * 2 * 21
    ensembles = pd.read_csv(tables / "ensembles.csv").set_index("variant")
    assert list(ensembles.index) == ["aeflow", "autoencoder"]
    assert (ensembles["n_members"] == 2).all()
    assert (ensembles.filter(regex="^(right|wrong)_").sum(axis=1) == ensembles["n_test"]).all()
    curves = pd.read_csv(tables / "risk.csv").groupby(["category", "variant"])["coverage"]
    assert (curves.max() == 1).all()
    assert curves.ngroups == 4
    for kind in ("weighting", "ensembles"):
        assert all((tables / f"{kind}.{ending}").stat().st_size for ending in ("md", "tex"))
    for name in ("weighting", "risk"):
        assert (figures / f"{name}-demo_textures.svg").is_file()


def test_the_demos_ablation_shares_a_training(demo: Repository, results: pd.DataFrame) -> None:
    depth = pd.read_csv(demo.results("demo") / "tables/ablations.csv").set_index("value")
    assert depth["trained_as"].to_dict() == {1: "aeflow_depth1", 4: "aeflow"}
    assert depth["is_default"].to_dict() == {1: False, 4: True}
    main = pd.read_csv(demo.results("demo") / "tables/main.csv").set_index("variant")
    assert depth.loc[4, "image_auroc_mean"] == main.loc["aeflow", "image_auroc_mean"]


def test_nothing_is_left_of_the_trivial_baseline_without_complexity(demo: Repository) -> None:
    tables = demo.results("demo") / "tables"
    corrected = pd.read_csv(tables / "complexity_corrected.csv").set_index("variant")
    assert "nothing is left" in corrected.loc["gradient", "reason"]
    assert corrected["corrected_auroc_mean"].isna().to_dict() == {
        "aeflow": False,
        "autoencoder": False,
        "gradient": True,
    }
    found = pd.read_csv(tables / "complexity.csv").set_index(["component", "measure", "images"])
    assert found.loc[("low_gradient", "mean_gradient", "all"), "spearman_mean"].item() == -1


def test_a_second_run_has_nothing_to_do(demo: Repository) -> None:
    again = demo.snakemake(overlay="config/demo.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_what_git_gets_is_compared_by_content(demo: Repository) -> None:
    """Not by time, which git does not keep: Snakemake does so below a size."""
    profile = yaml.safe_load((demo.folder / "profiles/default/config.yaml").read_text())
    limit = int(profile["max-checksum-file-size"].removesuffix("MB")) * 1_000_000
    small = [p for p in demo.results("demo").rglob("*") if p.is_file()]
    small = [p for p in small if not {"models", "scores"} & set(p.parts)]
    assert len(small) > 100
    assert max(path.stat().st_size for path in small) < limit / 10


def test_a_trained_model_says_what_made_it(demo: Repository) -> None:
    summary = json.loads(
        (demo.results("demo") / "train/demo_textures/brick/aeflow/seed0.json").read_text()
    )
    assert summary["settings"]["flow"]["steps"] == 4
    assert {"torch", "python", "aeflow"} <= summary["versions"].keys()
    assert len(summary["model_sha256"]) == len(summary["features_sha256"]) == 64
