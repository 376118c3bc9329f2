"""Fusion: members' scores as columns, and the mean of what is standardised, against numpy."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.scoring.combine import fused_table, pred_score
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.settings import ScoreSettings
from scripts.fuse_scores import main


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Score tables of a flow and of the trivial baseline, of the same 40 images."""
    generator = np.random.default_rng(0)
    gt_label = np.tile([0, 0, 0, 1], 10)
    identity = pd.DataFrame(
        {
            "image_id": [f"{index:02d}" for index in range(40)],
            "split": ["validation"] * 20 + ["test"] * 20,
            "gt_label": gt_label,
            "defect": np.where(gt_label == 1, "NA", "good"),
        }
    )
    return {
        "flow": identity.assign(
            nll=generator.normal(500, 9, 40), density=generator.normal(size=40)
        ),
        "low": identity.assign(low_gradient=generator.normal(size=40)),
    }


def expected(members: list[np.ndarray], normals: np.ndarray) -> np.ndarray:
    """The mean of z-scores; mean and sd (ddof 0) over validation normals."""
    return np.mean([(m - m[normals].mean()) / m[normals].std() for m in members], axis=0)


def test_the_script_gives_the_mean_of_standardised_scores(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    members = [
        {"name": "flow", "method": "flow", "score": {"flow": "nll"}},
        {"name": "low", "method": "gradient", "score": {"gradient": "low_gradient"}},
    ]
    for member in members:
        files = [tmp_path / f"{member['name']}.{ending}" for ending in ("csv", "json")]
        write_scores(*files, tables[member["name"]], pixel={})
        member |= dict(zip(("scores", "scored"), map(str, files), strict=True))
    scores, scored = tmp_path / "scores.csv", tmp_path / "scores.json"
    main(["--members", json.dumps(members), "--scores", str(scores), "--scored", str(scored)])
    fused = read_scores(scores, scored)
    assert list(fused.columns[4:]) == ["flow", "low"]
    assert set(fused["defect"]) == {"NA", "good"}
    digest = hashlib.sha256(scores.read_bytes()).hexdigest()
    made_from = {
        f"{name}_table_sha256": hashlib.sha256((tmp_path / f"{name}.csv").read_bytes()).hexdigest()
        for name in tables
    }
    expected_json = {"pixel": {}, "scores_sha256": digest, **made_from}
    assert json.loads(scored.read_text()) == expected_json
    columns = [tables["flow"]["nll"].to_numpy(), tables["low"]["low_gradient"].to_numpy()]
    normals = np.array([n for n in range(20) if n % 4 != 3])
    found = pred_score(fused, Method.FUSION, ScoreSettings())
    assert found == pytest.approx(expected(columns, normals), rel=1e-9)


def test_a_members_scale_counts_not(tables: dict[str, pd.DataFrame]) -> None:
    first, second = tables["flow"]["nll"].to_numpy(), tables["flow"]["density"].to_numpy()

    def fuse(*columns: np.ndarray) -> np.ndarray:
        fused = fused_table([tables["flow"]] * 2, ["a", "b"], np.column_stack(columns))
        return pred_score(fused, Method.FUSION, ScoreSettings(beta=0.1, flow="nll"))

    assert fuse(first, second) == pytest.approx(fuse(7 + 1000 * first, second), rel=1e-9)


def test_test_labels_change_no_fused_score(tables: dict[str, pd.DataFrame]) -> None:
    columns = np.column_stack([tables["flow"]["nll"], tables["flow"]["density"]])
    fused = fused_table([tables["flow"]] * 2, ["a", "b"], columns)
    swapped = fused.copy()
    swapped.loc[20:, "gt_label"] = 1 - swapped.loc[20:, "gt_label"]
    before, after = (pred_score(t, Method.FUSION, ScoreSettings()) for t in (fused, swapped))
    assert before.tolist() == after.tolist()


def test_members_of_other_images_are_refused(tables: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(DataError, match="in the image_id of image '00'"):
        fused_table([tables["flow"], tables["low"][::-1]], ["a", "b"], np.zeros((40, 2)))


def test_a_constant_member_has_no_scale(tables: dict[str, pd.DataFrame]) -> None:
    columns = np.column_stack([tables["flow"]["nll"], np.ones(40)])
    fused = fused_table([tables["flow"]] * 2, ["a", "flat"], columns)
    with pytest.raises(DataError, match=r"'flat' is 1\.0 on all 15 validation normals"):
        pred_score(fused, Method.FUSION, ScoreSettings())
