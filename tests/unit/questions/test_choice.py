"""The one-standard-error rule by hand, and that test labels cannot reach it."""

import numpy as np
import pandas as pd
import pytest

from aeflow.core.files import write_text
from aeflow.core.types import Split
from aeflow.display.table import csv_text
from aeflow.judging.delong import auroc_covariance
from aeflow.report import contents
from aeflow.scoring.predictions import SeedScores
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.cells import path, score_tables
from tests.unit.questions.memory import Memory, make_run

# Validation: 4 normal images with scores 0 to 3, and 4 anomalous ones.
GT_LABEL = np.repeat([0, 1], 4)
ABOVE = 4.5  # above every normal image: placement 4 of 4


def scores(*anomalous):
    """One seed; an anomalous image at k - 0.5 is above k of the four normal images."""
    score = np.array([[0, 1, 2, 3, *anomalous]], dtype=float).T
    return {"all": SeedScores(pd.DataFrame({"gt_label": GT_LABEL}), score)}


BEST, NEAR = scores(ABOVE, ABOVE, 2.5, 2.5), scores(ABOVE, 2.5, 2.5, 2.5)
FAR = scores(1.5, 1.5, 0.5, 0.5)


def source_of(variants, **seconds):
    runs = [
        make_run(variant=name, seed=seed, image_auroc=0.7 + seed / 10, fit_seconds=cost)
        for name, cost in seconds.items()
        for seed in (0, 1)
    ]
    found = {"tiles": variants} if variants else {}
    return Memory(*runs or [make_run()], predictions={Split.VALIDATION: found})


def choose(variants, **seconds):
    return source_of(variants, **seconds).table("choice").set_index("variant")


def test_the_cheapest_within_one_standard_error_of_the_best():
    # AUROC: 14/16, 13/16, 10/16, 6/16.
    cheap = scores(2.5, 2.5, 1.5, 1.5)
    variants = {"best": BEST, "near": NEAR, "cheap": cheap, "cheapest": FAR}
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
    # Equal placements of the anomalous leave no variance in V10: the error is that of V01 alone.
    variants = {"best": scores(*[2.5] * 4), "worse": scores(*[1.5] * 4)}
    found = choose(variants, best=2, worse=1)
    # V01 of best: 1, 1, 1, 0: variance 1/4 over 4 images, error 1/4; AUROC 3/4 and 2/4.
    assert found.loc["best", "val_error"] == pytest.approx(0.25)
    assert found["val_auroc"].tolist() == [0.75, 0.5]
    assert found["within_one_error"].tolist() == [True, True]
    assert found["chosen"].tolist() == [False, True]


def test_among_equally_dear_ones_the_better_then_the_first():
    variants = {"a": NEAR, "b": BEST, "c": BEST}
    found = choose(variants, a=5, b=5, c=5)
    assert found.index[found["best"]].tolist() == ["b"]
    assert found.index[found["chosen"]].tolist() == ["b"]
    # What costs more has to be the only one within to be chosen.
    assert choose(variants, a=6, b=6, c=5)["chosen"].tolist() == [False, False, True]


def test_seeds_and_categories_are_averaged():
    generator, images = np.random.default_rng(0), pd.DataFrame({"gt_label": GT_LABEL})
    parts = {
        c: SeedScores(images, generator.normal(size=(8, 3)) + GT_LABEL[:, None]) for c in "ab"
    }
    found = choose({"x": parts}, x=1).loc["x"]
    aurocs, covariances = zip(
        *(auroc_covariance(GT_LABEL, part.score) for part in parts.values()), strict=True
    )
    weight = np.full(3, 1 / 3)
    error = np.sqrt(sum(weight @ c @ weight for c in covariances)) / 2
    assert found["val_auroc"] == pytest.approx(np.mean(aurocs))
    assert found["val_error"] == pytest.approx(error)


def test_without_validation_anomalies_there_is_no_choice():
    normal = {"all": SeedScores(pd.DataFrame({"gt_label": [0, 0]}), np.zeros((2, 1)))}
    source = source_of({"x": normal, "y": normal}, x=1, y=1)
    (row,) = source.table("choice").to_dict("records")
    assert (row["variant"], row["chosen"], pd.isna(row["n_seeds"])) == ("", False, True)
    assert "There are no anomalous images." in row["reason"]
    assert "no anomalous images" in source.shown("choice").markdown()
    assert "one of our methods" in source_of({}).shown("choice").note


def test_the_table_for_people_shows_the_chosen_first():
    source = source_of({"far": FAR, "best": BEST, "near": NEAR}, best=9, near=5, far=1)
    assert source.table("choice")["variant"].tolist() == ["far", "best", "near"]
    shown = source.shown("choice")
    assert shown.cells["Variant"].tolist() == ["near", "best", "far"]
    assert shown.cells["Choice"].tolist() == ["chosen", "best", ""]
    assert shown.cells["Test AUROC"][0] == "75.0 ± 7.1"
    assert shown.bold.all(axis=1).tolist() == [True, False, False]
    assert "No test label enters the choice" in shown.note


def test_permuted_test_labels_leave_the_choice_alone(small):
    make = contents.maker(small)
    for name in ("results", "main"):
        write_text(path(small, "csv", {"table": name}), csv_text(make(name)))

    def choice_with(split, change):
        for cell in score_tables(small):
            table = read_scores(path(small, "scores", cell))
            rows = table["split"] == split
            table.loc[rows, "gt_label"] = change(table.loc[rows, "gt_label"].to_numpy())
            write_scores(path(small, "scores", cell), table)
        return contents.maker(small)("choice")

    before = make("choice")
    assert before["chosen"].sum() == 1
    after = choice_with(Split.TEST, lambda labels: np.random.default_rng(1).permutation(labels))
    pd.testing.assert_frame_equal(before, after)
    # Other validation labels do change it, so the test above could fail.
    other = choice_with(Split.VALIDATION, lambda labels: 1 - labels)
    assert not other["val_auroc"].equals(before["val_auroc"])
