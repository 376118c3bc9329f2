"""Two people, one study: what git and DVC carry from one's folder to the other's.

On two datasets; test_acceptance.py does the same with the demo as it is.
"""

import re
from pathlib import Path

from tests.workflow.conftest import Shared
from tests.workflow.test_reruns import AFTER_TRAINING

ABLATION = (
    "ablations: [{name: deep, of: aeflow, key: flow.steps, values: [4], datasets: [again]}]\n"
)
SUMMARY = "train/again/brick/aeflow/seed0.json"
SMALL = {".dvc", ".json", ".csv", ".md", ".tex", ".svg", ".png", ".html"}
NAMES = ("again", "demo_textures")
MODELS, SCORES = "results/tiny/models", "results/tiny/scores"
TO_TRAIN = [f"data/{part}/{{0}}" for part in ("prepared", "features/efficientnet_lite0-stage3")]
WEIGHTS = "data/weights/efficientnet_lite0.safetensors"
# One job for all datasets.
SUMMARIES = {
    *{"aggregate_metrics", "choose_setting", "collect_ablations", "compare_variants"},
    *{"explain_scores", "sweep_weighting", "make_tables", "build_report"},
}


def test_small_files_are_in_git_and_payload_in_dvc(author: Shared) -> None:
    tracked = author.call("git", "ls-files").stdout.splitlines()
    folders = ("data/prepared", "data/features/efficientnet_lite0-stage3", MODELS, SCORES)
    expected = {f"{folder}/{name}.dvc" for folder in folders for name in NAMES}
    expected |= {"data/raw/demo_textures.zip.dvc", f"{WEIGHTS}.dvc"}
    assert {name for name in tracked if name.endswith(".dvc")} == expected
    made = [name for name in tracked if name.startswith(("data/", "results/tiny"))]
    assert {Path(name).suffix for name in made} == SMALL
    for name in ("metrics.json", "report.html", "tables/main.csv", SUMMARY):
        assert f"results/tiny/{name}" in made
    for name in tracked:
        assert (author.folder / name).stat().st_size < 5_000_000, name
    assert author.status() == ""


def test_another_depth_reruns_its_dataset_alone(pulled: Shared) -> None:
    pulled.edit("flow: {steps: 1}", "flow: {steps: 3}")
    # A table over all datasets is made again, and with it the figures that rest on one.
    both = ("plot_variants", "plot_weighting", "plot_complexity", "plot_defects")
    assert pulled.plan() == AFTER_TRAINING | dict.fromkeys(both, 2)
    plan = pulled.snakemake("--dry-run").stdout
    for rule in AFTER_TRAINING.keys() - SUMMARIES - set(both):
        assert planned_datasets(plan, rule) == {"again"}, rule


def planned_datasets(plan: str, rule: str) -> set[str]:
    """Return the datasets of a rule's jobs in a dry run."""
    scripts = [line for line in plan.splitlines() if f"scripts/{rule}.py" in line]
    return {name for line in scripts for name in NAMES if re.search(f"[/-]{name}[-./]", line)}


def test_with_what_they_were_made_from_checkpoints_score_again(copy: Shared) -> None:
    closure = [path.format(name) for path in TO_TRAIN for name in NAMES]
    copy.call("dvc", "pull", "--quiet", *closure, WEIGHTS, *(f"{MODELS}/{n}" for n in NAMES))
    copy.edit("evaluation: {", "evaluation: {fpr_limit: 0.2, ")
    plan = copy.plan()
    assert plan["score_images"] == 2
    assert not {"train_model", "extract_features", "prepare_images", "fetch_data"} & set(plan)


def test_a_new_row_of_an_ablation_trains_that_row(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet", *(path.format("again") for path in TO_TRAIN), WEIGHTS)
    with (copy.folder / "tiny.yaml").open("a") as overlay:
        overlay.write(ABLATION)
    row = dict.fromkeys(("train_model", "score_images", "evaluate_scores", "plot_ablations"), 1)
    tables = ("aggregate_metrics", "choose_setting", "collect_ablations", "make_tables")
    assert copy.plan() == row | dict.fromkeys(tables, 1) | {"plot_variants": 2, "build_report": 1}


def test_branches_keep_their_checkpoints(pulled: Shared) -> None:
    """A retraining on a branch, back to main, and to the branch again."""
    before = pulled.model()
    pulled.call("git", "switch", "--quiet", "--create", "deeper")
    pulled.edit("flow: {steps: 1}", "flow: {steps: 2}")
    pulled.snakemake()
    after = pulled.model()
    assert after != before
    assert "2 changed" in pulled.track().stdout, "checkpoint and score files"
    pulled.commit("A deeper flow")
    for branch, model in (("main", before), ("deeper", after)):
        pulled.call("git", "switch", "--quiet", branch)
        pulled.call("dvc", "checkout", "--quiet")
        assert pulled.model() == model
        assert pulled.plan() == {}


def test_a_rejected_retraining_loses_nothing(pulled: Shared) -> None:
    """It fails, is not forgotten, is not recorded; and the checkpoint it removed comes back."""
    before = pulled.model()
    pulled.edit("settings: {flow: {steps: 1}}", "settings: {training: {device: mps}}")
    assert pulled.snakemake(check=False).returncode != 0
    assert not pulled.checkpoint.exists()
    assert pulled.plan()["train_model"] == 1
    pulled.track()
    staged = pulled.call("git", "diff", "--cached", "--name-only").stdout
    assert staged == "", "nothing of a failed job is handed over"
    pulled.call("git", "checkout", "--quiet", "HEAD", ".")
    pulled.call("dvc", "checkout", "--quiet")
    assert pulled.model() == before
    assert pulled.plan() == {}


def test_nothing_of_a_half_made_change_is_handed_over(copy: Shared) -> None:
    """Neither the part of the payload that is here, nor the small files of other jobs."""
    copy.call("dvc", "pull", "--quiet", "data/prepared/again/brick/index.csv")
    index = copy.folder / "data/prepared/again/brick/index.csv"
    index.write_text(index.read_text() + "\n")
    summary = copy.results() / SUMMARY
    summary.write_text(summary.read_text() + "\n")
    refused = copy.track(check=False)
    assert refused.returncode == 1
    assert "data/prepared/again is only partly here (new or changed: " in refused.stderr
    assert "Nothing was handed over" in refused.stderr
    assert copy.status() == f" M results/tiny/{SUMMARY}\n"
    copy.call("git", "checkout", "--quiet", "HEAD", ".")
    copy.call("dvc", "checkout", "--quiet", "data/prepared/again", check=False)
    copy.call("dvc", "pull", "--quiet", "--force", "data/prepared/again")
    copy.track()
    assert copy.status() == ""


def test_what_a_clone_trained_is_handed_over_with_what_it_had_not_pulled(copy: Shared) -> None:
    """As the message says: each file that is absent still is pulled by its name."""
    new = copy.checkpoint.parents[1] / "deep/seed0.safetensors"
    new.parent.mkdir(parents=True)
    new.write_text("of another variant")
    absent = copy.checkpoint.relative_to(copy.folder).as_posix()
    refused = copy.track(check=False)
    assert refused.returncode == 1
    assert f"absent: {absent}). Nothing was handed over" in refused.stderr
    copy.call("dvc", "pull", "--quiet", absent)
    assert "1 changed" in copy.track().stdout
    listed = copy.call("dvc", "list", "--recursive", "--dvc-only", ".", f"{MODELS}/again").stdout
    assert listed.split() == ["brick/aeflow/seed0.safetensors", "brick/deep/seed0.safetensors"]


def test_studies_that_are_not_tracked_never_show(author: Shared, copy: Shared) -> None:
    for name in (
        "results/demo/report.html",
        "results/demo/models/demo_textures/brick/aeflow/seed0.safetensors",
        "data/manifests/raw/other.json",
        "data/prepared/other/all/images.npy",
        "data/features/efficientnet_lite0-stage2/other/all.npy",
        ".snakemake/metadata/cmVzdWx0cy9kZW1vL3JlcG9ydC5odG1s",
    ):
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert copy.status() == ""
