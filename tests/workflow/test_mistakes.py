"""What a user gets wrong is said in one sentence, before any job runs."""

import json
from pathlib import Path

import pytest

from tests.workflow.conftest import Repository, copy_repository


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"datasets": [{"name": "demo_textures", "categories": ["brik"]}]},
            ["no category 'brik'", "did you mean 'brick'"],
        ),
        (
            {
                "ablations": [
                    {"name": "depth", "of": "aeflow", "key": "flow.steps", "values": [-1]}
                ]
            },
            # Snakemake's --config makes the number a text.
            ["ablations[depth].values (aeflow_depth_-1): flow.steps", "equal to 0, not '-1'"],
        ),
        (
            {
                "ablations": [],
                "variants": [
                    {"name": "known", "settings": {"encoder": {"name": "resnet18"}}},
                    {"name": "unknown", "settings": {"encoder": {"name": "resnet1x8"}}},
                ],
            },
            ["no 'resnet1x8'", "did you mean resnet18", "Cards in config/encoders: efficientnet"],
        ),
    ],
)
def test_a_wrong_configuration_is_refused(
    clone: Repository, overrides: dict[str, object], words: list[str]
) -> None:
    """Each by another check; what these say of other mistakes is in tests/unit/study."""
    settings = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    done = clone.snakemake("--config", *settings, check=False)
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    for word in words:
        assert word in sentence
    assert "Traceback" not in done.stderr


def test_a_target_of_no_variant_is_refused(clone: Repository) -> None:
    target = "results/tiny/metrics/demo_textures/brick/aeflwo/seed0.json"
    done = clone.snakemake("--dry-run", target, check=False)
    assert done.returncode == 1
    assert "The study has no variant 'aeflwo'" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "mode",
    [["--dry-run"], ["--mode", "subprocess", "--target-jobs", "all:"], ["--lint"]],
    ids=lambda mode: mode[0],
)
def test_a_wrong_configuration_is_told_on_stderr_in_every_mode(
    clone: Repository, mode: list[str]
) -> None:
    """A dry run sends what Snakemake has to say to stdout; a job on a cluster reads it again."""
    done = clone.snakemake(*mode, "--config", "flwo=1", check=False)
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("configuration: unknown key 'flwo' (did you mean 'flow'?)")
    assert "Traceback" not in done.stderr
    assert "flwo" not in done.stdout


def test_the_papers_study_can_be_planned(clone: Repository) -> None:
    """A dry run of config.yaml: nothing of it is there, and nothing is downloaded."""
    plan = clone.plan(overlay="config/config.yaml")
    assert plan["fetch_data"] == 7  # one of OCT for both of its rows
    # Categories: 3 of bTAD, 15 of MVTec AD, none in the 6 other rows. Three seeds.
    assert plan["prepare_images"] == 24
    # aeflow, flow and autoencoder everywhere; on chest X-ray and bTAD (4 categories) the values of
    # eight ablations that aeflow has not: 4 + 1 + 2 + 2 + 2 + 2 + 2 + 1.
    # And the two Gaussians, which have no seeds.
    assert plan["train_model"] == 3 * (24 * 3 + 4 * 16) + 2 * 24
    assert plan["score_images"] == plan["train_model"] + 24, "and gradient"
    assert plan["fuse_scores"] == 24, "the ensemble"
    assert plan["evaluate_scores"] == plan["score_images"] + plan["fuse_scores"]


def test_a_grid_trains_what_differs_and_no_more(clone: Repository) -> None:
    """Depth x subnet x alpha x seed, whatever is asked of the scores."""
    grid = [
        {
            "name": f"{subnet}{alpha}_{beta}",
            "settings": {
                "flow": {"subnet": subnet},
                "loss": {"alpha": alpha},
                "score": {"beta": beta},
            },
        }
        for subnet in ("conv", "resnet")
        for alpha in (0.1, 0.5)
        for beta in (0.0, 0.9, 1.0)
    ]
    depth = {"key": "flow.steps", "values": [1, 2, 4]}  # 2 is the study's
    ablations = [
        {"name": f"depth{n}_", "of": entry["name"], **depth} for n, entry in enumerate(grid)
    ]
    plan = clone.plan(
        "--config",
        f"variants={json.dumps(grid)}",
        f"ablations={json.dumps(ablations)}",
        "seeds=[0, 1]",
    )
    assert plan["extract_features"] == 2  # categories
    assert plan["train_model"] == plan["score_images"] == 2 * 3 * 2 * 2 * 2
    assert plan["evaluate_scores"] == plan["score_images"], "one judges all that reads a table"


def test_a_dataset_that_has_to_be_asked_for_stops_nothing_else(tmp_path: Path) -> None:
    repository = Repository(copy_repository(tmp_path))
    prepared = "data/receipts/prepared/{}.json"
    done = repository.snakemake(
        "--config",
        'datasets=[{"name": "miic"}, {"name": "demo_textures"}]',
        "--",
        prepared.format("miic/all"),
        prepared.format("demo_textures/brick"),
        check=False,
    )
    assert done.returncode != 0
    lines = [line.strip() for line in done.stderr.splitlines()]
    told = next(number for number, line in enumerate(lines) if "without an account" in line)
    assert lines[told].startswith("Failed: fetch_data of miic: MIIC")
    assert lines[told + 1].startswith("1. ")
    assert (tmp_path / prepared.format("demo_textures/brick")).is_file()
    assert not (tmp_path / prepared.format("miic/all")).exists()
