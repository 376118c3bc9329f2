"""The one-standard-error rule by hand, and that test labels cannot reach it."""

import json

import numpy as np
import pandas as pd
import pytest

from aeflow.judging.delong import auroc_covariance
from aeflow.questions.choice import (
    CHOICE_COLUMNS,
    choice_display,
    choice_table,
    choose_settings,
    chosen_variants,
    read_choice,
)
from aeflow.questions.results import main_table, results_table, write_table
from aeflow.scoring.predictions import SeedScores
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import Cell, pack_cells
from tests.unit.cell_scores import save_scores
from tests.unit.reporting.test_scripts import run

# Validation: 4 normal images with scores 0 to 3, and 4 anomalous ones.
GT_LABEL = np.repeat([0, 1], 4)
NORMAL = [0, 1, 2, 3]
ABOVE = 4.5  # above every normal image: placement 4 of 4


def scores(*anomalous):
    """One seed; an anomalous image at k - 0.5 is above k of the four normal images."""
    return one_category(np.array([[*NORMAL, *anomalous]], dtype=float).T)


def one_category(score):
    return {"all": SeedScores(pd.DataFrame({"gt_label": GT_LABEL}), score)}


def seconds(**found):
    rows = [("d", name, cost) for name, cost in found.items()]
    return pd.DataFrame(rows, columns=["dataset", "variant", "fit_seconds"])


def choose(variants, **fit_seconds):
    return choose_settings({"d": variants}, seconds(**fit_seconds)).set_index("variant")


def test_the_cheapest_within_one_standard_error_of_the_best():
    # AUROC: 14/16, 13/16, 10/16, 6/16.
    variants = {
        "best": scores(ABOVE, ABOVE, 2.5, 2.5),
        "near": scores(ABOVE, 2.5, 2.5, 2.5),
        "cheap": scores(2.5, 2.5, 1.5, 1.5),
        "cheapest": scores(1.5, 1.5, 0.5, 0.5),
    }
    found = choose(variants, best=100, near=50, cheap=10, cheapest=1)
    assert found["val_auroc"].tolist() == [14 / 16, 13 / 16, 10 / 16, 6 / 16]
    # By hand for `best`: V10 = 1, 1, 3/4, 3/4, variance 1/48; V01 of the normals 0, 1, 2, 3:
    # 1, 1, 1, 1/2, variance 1/16; each over 4 images.
    assert found.loc["best", "val_error"] == pytest.approx(np.sqrt(1 / 48 / 4 + 1 / 16 / 4))
    # 0.875 - 0.1443 = 0.7307: 13/16 is within, 10/16 is not.
    assert found["within_one_error"].tolist() == [True, True, False, False]
    assert found["best"].tolist() == [True, False, False, False]
    assert found.index[found["chosen"]].tolist() == ["near"]


def test_exactly_one_standard_error_is_within():
    # Equal placements in both classes leave no variance in V10: the error is that of V01 alone.
    best = np.array([[0, 1, 2, 3, 2.5, 2.5, 2.5, 2.5]], dtype=float).T
    worse = np.array([[0, 1, 2, 3, 1.5, 1.5, 1.5, 1.5]], dtype=float).T
    variants = {"best": one_category(best), "worse": one_category(worse)}
    found = choose(variants, best=2, worse=1)
    # V01 of best: 1, 1, 1, 0: variance 1/4 over 4 images, error 1/4; AUROC 3/4 and 2/4.
    assert found.loc["best", "val_error"] == pytest.approx(0.25)
    assert found["val_auroc"].tolist() == [0.75, 0.5]
    assert found["within_one_error"].tolist() == [True, True]
    assert found["chosen"].tolist() == [False, True]


def test_among_equally_dear_ones_the_better_then_the_first():
    near, best = scores(ABOVE, 2.5, 2.5, 2.5), scores(ABOVE, ABOVE, 2.5, 2.5)
    variants = {"a": near, "b": best, "c": best}
    found = choose(variants, a=5, b=5, c=5)
    assert found.index[found["best"]].tolist() == ["b"]
    assert found.index[found["chosen"]].tolist() == ["b"]
    # What costs more has to be the only one within to be chosen.
    assert choose(variants, a=6, b=6, c=5)["chosen"].tolist() == [False, False, True]


def test_seeds_and_categories_are_averaged():
    generator = np.random.default_rng(0)
    parts = {
        c: SeedScores(
            pd.DataFrame({"gt_label": GT_LABEL}), generator.normal(size=(8, 3)) + GT_LABEL[:, None]
        )
        for c in "ab"
    }
    found = choose({"x": parts}, x=1).loc["x"]
    aurocs, covariances = zip(
        *(auroc_covariance(GT_LABEL, p.score) for p in parts.values()), strict=True
    )
    weight = np.full(3, 1 / 3)
    error = np.sqrt(sum(weight @ c @ weight for c in covariances)) / 2
    assert found["val_auroc"] == pytest.approx(np.mean(aurocs))
    assert found["val_error"] == pytest.approx(error)


def test_without_validation_anomalies_there_is_no_choice(make_run, tmp_path):
    normal = SeedScores(pd.DataFrame({"gt_label": [0, 0]}), np.zeros((2, 1)))
    chosen = choose_settings(
        {"d": {"x": {"all": normal}, "y": {"all": normal}}}, seconds(x=1, y=1)
    )
    assert chosen["variant"].tolist() == [""]
    assert "There are no anomalous images." in chosen["reason"][0]
    main = main_table(results_table([make_run(dataset="d", variant="x")]))
    table = choice_table(chosen, main)
    assert chosen_variants(table) == {}
    write_table(table, tmp_path / "choice.csv")
    again = read_choice(tmp_path / "choice.csv")
    assert list(again.columns) == CHOICE_COLUMNS
    assert (again["variant"][0], again["chosen"][0]) == ("", False)
    assert "no anomalous images" in choice_display(again).markdown()
    empty = choice_table(choose_settings({}, seconds()), main)
    write_table(empty, tmp_path / "choice.csv")
    assert "one of our methods" in choice_display(read_choice(tmp_path / "choice.csv")).note


def test_the_table_for_people_shows_the_chosen_first(make_run):
    variants = {
        "far": scores(1.5, 1.5, 0.5, 0.5),
        "best": scores(ABOVE, ABOVE, 2.5, 2.5),
        "near": scores(ABOVE, 2.5, 2.5, 2.5),
    }
    chosen = choose_settings({"d": variants}, seconds(best=9, near=5, far=1))
    runs = [
        make_run(dataset="d", variant=name, seed=seed, image_auroc=0.7 + seed / 10)
        for name in variants
        for seed in (0, 1)
    ]
    table = choice_table(chosen, main_table(results_table(runs)))
    assert table["variant"].tolist() == ["far", "best", "near"]
    assert chosen_variants(table) == {"d": "near"}
    shown = choice_display(table)
    assert shown.cells["Variant"].tolist() == ["near", "best", "far"]
    assert shown.cells["Choice"].tolist() == ["chosen", "best", ""]
    assert shown.cells["Test AUROC"][0] == "75.0 ± 7.1"
    assert shown.bold.all(axis=1).tolist() == [True, False, False]
    assert "No test label enters the choice" in shown.note


def test_permuted_test_labels_leave_the_choice_alone(make_run, scores_of_study, tmp_path):
    folder, cells, variants = scores_of_study
    arguments = {
        "--folder": folder,
        "--cells": pack_cells(cells),
        "--scorings": json.dumps(
            [
                {"dataset": "d", "method": "flow", "score": {}, "tables": {name: name}}
                for name in variants
            ]
        ),
        "--main": tmp_path / "main.csv",
        "--csv": tmp_path / "choice.csv",
        "--md": tmp_path / "choice.md",
        "--tex": tmp_path / "choice.tex",
    }
    flat = [part for pair in arguments.items() for part in pair]

    def choice(image_auroc):
        runs = [
            make_run(dataset="d", variant=name, image_auroc=auroc, fit_seconds=cost)
            for (name, cost), auroc in zip(variants.items(), image_auroc, strict=True)
        ]
        write_table(main_table(results_table(runs)), tmp_path / "main.csv")
        run("choose_setting", *flat)
        return read_choice(tmp_path / "choice.csv")

    before = choice([0.9, 0.8, 0.7])
    order = np.random.default_rng(1).permutation(80)
    for cell in cells:
        table = read_cell_scores(folder, cell)
        test = table["split"] == "test"
        table.loc[test, "gt_label"] = table.loc[test, "gt_label"].to_numpy()[order]
        save_scores(folder, cell, table)
    after = choice([0.4, 0.6, 0.5])
    assert before["chosen"].sum() == 1
    shown = ["image_auroc_mean"]
    pd.testing.assert_frame_equal(before.drop(columns=shown), after.drop(columns=shown))
    assert not before[shown].equals(after[shown])
    # Other validation labels do change it, so the test above could fail.
    for cell in cells:
        table = read_cell_scores(folder, cell)
        table.loc[table["split"] == "validation", "gt_label"] ^= 1
        save_scores(folder, cell, table)
    assert not choice([0.9, 0.8, 0.7])["val_auroc"].equals(before["val_auroc"])


@pytest.fixture
def scores_of_study(tmp_path):
    """Score tables of three variants of one training each, and their seconds."""
    generator = np.random.default_rng(0)
    variants = {"slow": 30.0, "middle": 20.0, "fast": 10.0}
    cells = [Cell("d", "all", name, 0) for name in variants]
    for cell, shift in zip(cells, (2.0, 1.9, 0.3), strict=True):
        gt_label = np.tile(np.repeat([0, 1], 40), 2)
        table = pd.DataFrame(
            {
                "image_id": range(160),
                "split": np.repeat(["validation", "test"], 80),
                "gt_label": gt_label,
                "defect": "good",
                "density": generator.normal(size=160) + shift * gt_label,
            }
        )
        save_scores(tmp_path, cell, table)
    return tmp_path, cells, variants
