"""DVC's own commands, as docs/share.md shows them, on dvc.yaml as it is."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.conftest import TINY, Repository, Shared
from tests.workflow.remotes import section

# dvc.yaml names config/config.yaml and results/paper.
CONFIG = TINY.replace("study: tiny", "study: paper").replace(
    "  - {name: beta_half, settings: {score: {beta: 0.5}}}\n", ""
)
MODEL = "results/paper/models/demo_textures/brick/aeflow/seed{}.safetensors"
SUMMARY = "results/paper/train/demo_textures/brick/aeflow/seed{}.json"
NOTHING = "Nothing to be done"


def documented(start: str) -> list[str]:
    """Return the command of docs/share.md that starts so."""
    block = section("DVC's own commands").split("```")[1]
    (line,) = (line for line in block.splitlines() if line.startswith(start))
    return shlex.split(line, comments=True)


@pytest.fixture(scope="module")
def reproduced(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """The study after `dvc repro`, with what that and the documented `git` hand over committed."""
    folder = tmp_path_factory.mktemp("reproduced")
    shutil.copytree(finished_tiny.folder, folder, dirs_exist_ok=True)
    (folder / "config/config.yaml").write_text(CONFIG)
    study = Shared(folder)
    study.call("git", "init", "--quiet", "--initial-branch=main")
    study.commit("The study's configuration")
    study.call(*documented("dvc repro"))
    study.call("sh", "-c", shlex.join(documented("git add")).replace("'&&'", "&&"))
    return study


@pytest.fixture
def study(reproduced: Shared, tmp_path: Path) -> Shared:
    """A copy of it, to be changed."""
    shutil.copytree(reproduced.folder, tmp_path / "study")
    return Shared(tmp_path / "study")


def scores(study: Shared) -> dict[str, float]:
    """Return the AUROC of each variant."""
    means = pd.read_csv(study.results("paper") / "tables/main.csv")
    return dict(zip(means["variant"], means["image_auroc_mean"], strict=True))


def tracked(study: Shared) -> set[str]:
    return set(study.call("git", "ls-files").stdout.splitlines())


def test_repro_runs_and_hands_over_once(reproduced: Shared, study: Shared) -> None:
    assert reproduced.status() == ""
    models = "results/paper/models/demo_textures.dvc"
    expected = {SUMMARY.format(0), models, "results/paper/metrics.json", "dvc.lock"}
    assert tracked(reproduced) >= expected
    assert MODEL.format(0) not in tracked(reproduced)
    again = study.call(*documented("dvc repro"))
    assert NOTHING in again.stderr
    assert "DVC: 0 new, 0 changed" in again.stdout
    assert study.status() == ""


def test_show(study: Shared) -> None:
    shown = study.call(*documented("dvc metrics show"), "--json").stdout
    metrics = json.loads(shown)[""]["data"]["results/paper/metrics.json"]["data"]
    table = study.call(*documented("dvc metrics show")).stdout
    means = scores(study)
    for variant in ("aeflow", "gradient"):
        assert metrics["demo_textures"][variant]["image_auroc"] == pytest.approx(means[variant])
        assert f"demo_textures.{variant}.image_auroc" in table
    study.call(*documented("dvc plots show"))
    page = (study.folder / "dvc_plots/index.html").read_text()
    spec = json.loads(re.findall(r"var spec = (.+);$", page, re.MULTILINE)[0])
    drawn = {row["variant"]: float(row["image_auroc_mean"]) for row in spec["data"]["values"]}
    assert drawn == pytest.approx(means)
    encoding = spec["encoding"]
    fields = [encoding[axis]["field"] for axis in ("x", "y", "row")]
    assert fields == ["image_auroc_mean", "variant", "dataset"]
    assert study.status() == "", "the page is ignored"


def test_an_experiment_is_dropped_kept_and_compared(study: Shared) -> None:
    """With a key that the configuration has and one that it has not, in one run."""
    before = scores(study)
    study.call("git", "switch", "--quiet", "--create", "other")
    command = documented("dvc exp run -S 'config/config.yaml:seeds")
    added = documented("dvc exp run -S 'config/config.yaml:+")[-1]
    assert added == "config/config.yaml:+flow.steps=4"
    # That key is here; and another beta needs no other training.
    added = added.replace("flow.steps=4", "score.beta=0.5")
    refused = study.call(*command[:-1], added.replace("+", ""), check=False)
    assert refused.returncode != 0
    assert "use +score.beta=0.5" in refused.stderr
    study.call(*command, "-S", added)
    after = scores(study)
    assert after["aeflow"] != before["aeflow"]
    assert after["gradient"] == before["gradient"]
    assert SUMMARY.format(1) not in tracked(study), "DVC has emptied the index"
    (name,) = study.call("dvc", "exp", "list", "--name-only").stdout.split()
    assert name in study.call(*documented("dvc exp show"), "--csv").stdout

    study.call("git", "checkout", "--quiet", "HEAD", ".")
    study.call("dvc", "checkout", "--quiet")
    assert scores(study) == before
    assert NOTHING in study.call("snakemake", "--dry-run").stdout
    for path in study.results("paper").rglob("seed1.*"):
        path.unlink()
    study.call("dvc", "exp", "apply", name)
    study.call("python", "scripts/track.py")
    assert scores(study) == after
    assert (study.folder / MODEL.format(1)).exists()
    assert SUMMARY.format(1) in tracked(study)
    assert NOTHING in study.call("snakemake", "--dry-run").stdout
    study.call("git", "commit", "--quiet", "--all", "--message", "Two seeds, another beta")
    assert study.status() == ""
    assert study.call("dvc", "data", "status").stdout.strip() == "No changes."

    parameters = study.call(*documented("dvc params diff"), "--json").stdout
    (changed,) = json.loads(parameters).values()
    new = {key: value["new"] for key, value in changed.items()}
    assert new == {"score.beta": 0.5, "seeds": "[0, 1]"}
    metrics = study.call(*documented("dvc metrics diff"), "--json").stdout
    (cells,) = json.loads(metrics).values()
    assert {key.split(".")[1] for key in cells} == {"aeflow"}
    auroc = cells["demo_textures.aeflow.image_auroc"]
    assert auroc["old"] == pytest.approx(before["aeflow"])
    assert auroc["new"] == pytest.approx(after["aeflow"])


def test_a_lock_that_git_ignores_stops_repro(study: Shared) -> None:
    """Why docs/share.md has it committed."""
    study.edit("/dvc_plots/\n", "/dvc_plots/\n/dvc.lock\n", ".gitignore")
    study.call("git", "rm", "--quiet", "--cached", "dvc.lock")
    refused = study.call("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert "dvc.lock' is git-ignored" in refused.stderr
