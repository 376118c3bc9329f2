"""Two people, one study: what git and DVC carry from one's folder to the other's."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflow.conftest import Repository

BOTH = """\
datasets:
  - {name: demo_textures, categories: [brick]}
  - name: again
    card: demo_textures
    categories: [brick]
    settings: {flow: {steps: 1}}
"""
ABLATION = (
    "ablations: [{name: deep, of: aeflow, key: flow.steps, values: [4], datasets: [again]}]\n"
)
MODEL = "models/again/brick/aeflow/seed0.safetensors"
SUMMARY = "train/again/brick/aeflow/seed0.json"
SMALL = {".dvc", ".json", ".csv", ".npz", ".md", ".tex", ".svg", ".png", ".html"}
NAMES = ("again", "demo_textures")
MODELS = "results/tiny/models"
TO_TRAIN = [f"data/{part}/{{0}}" for part in ("prepared", "features/efficientnet_lite0-stage3")]
WEIGHTS = "data/weights/efficientnet_lite0.safetensors"
# What changes below the metrics of any cell; figures have a job per dataset or per variant.
SUMMARIES = {"aggregate_metrics", "make_tables", "build_report", "collect_ablations"}


class Shared(Repository):
    """A working copy of the shared study."""

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment(), "GIT_CONFIG_GLOBAL": "/dev/null", **IDENTITY},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def track(self) -> subprocess.CompletedProcess[str]:
        return self.call("python", "scripts/track.py", "--configfile", "tiny.yaml")

    def commit(self, message: str) -> None:
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message", message)

    def status(self) -> str:
        """Return what git sees to be committed."""
        return self.call("git", "status", "--porcelain").stdout

    def edit(self, old: str, new: str, name: str = "tiny.yaml") -> None:
        path = self.folder / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    def model(self) -> str:
        return hashlib.sha256((self.results() / MODEL).read_bytes()).hexdigest()


IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Author"), ("EMAIL", "author@example.org"))
}


@pytest.fixture(scope="module")
def author(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """The folder of who ran the study, tracked, committed and pushed. Not to be changed."""
    folder = tmp_path_factory.mktemp("author")
    shutil.copytree(finished_tiny.folder, folder, dirs_exist_ok=True)
    author = Shared(folder)
    author.edit("datasets: [{name: demo_textures, categories: [brick]}]\n", BOTH)
    author.snakemake()
    author.call("git", "init", "--quiet", "--initial-branch=main")
    author.call("dvc", "remote", "add", "--default", "store", str(folder.with_name("store")))
    author.commit("The study's configuration")
    author.track()
    author.commit("The study's results")
    author.call("dvc", "push", "--quiet")
    return author


@pytest.fixture
def copy(author: Shared, tmp_path: Path) -> Shared:
    """A fresh clone of the author's, without any payload."""
    author.call("git", "clone", "--quiet", str(author.folder), str(tmp_path / "copy"))
    return Shared(tmp_path / "copy")


@pytest.fixture
def pulled(copy: Shared) -> Shared:
    """A fresh clone, after `dvc pull`."""
    copy.call("dvc", "pull", "--quiet")
    return copy


def test_small_files_are_in_git_and_payload_in_dvc(author: Shared) -> None:
    tracked = author.call("git", "ls-files").stdout.splitlines()
    folders = ("data/prepared", "data/features/efficientnet_lite0-stage3", MODELS)
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


def test_a_clone_that_pulled_has_nothing_to_do(pulled: Shared) -> None:
    assert pulled.plan() == {}
    assert pulled.call("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "tiny: passed" in pulled.call("aeflow", "doctor", "--configfile", "tiny.yaml").stdout
    pulled.track()
    assert pulled.status() == "", "nothing has changed"


def test_a_clone_without_payload_has_nothing_to_do(copy: Shared) -> None:
    assert copy.plan() == {}
    copy.track()
    assert copy.status() == "", "what is absent stays recorded"


def test_another_depth_reruns_its_dataset_alone(pulled: Shared) -> None:
    pulled.edit("flow: {steps: 1}", "flow: {steps: 3}")
    plan = pulled.snakemake("--dry-run").stdout
    assert pulled_jobs(plan, "train_model") == {"again"}
    assert pulled_jobs(plan, "score_images") == {"again"}
    assert pulled_jobs(plan, "evaluate_scores") == {"again"}
    assert pulled_jobs(plan, "prepare_images") == pulled_jobs(plan, "extract_features") == set()


def pulled_jobs(plan: str, rule: str) -> set[str]:
    """Return the datasets of a rule's jobs in a dry run."""
    blocks = [block for block in plan.split("\n\n") if f"rule {rule}:" in block]
    texts = [line for block in blocks for line in block.splitlines() if "wildcards:" in line]
    return {text.split("dataset=")[1].split(",")[0] for text in texts}


def test_pulling_the_checkpoints_is_enough_to_judge_again(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet", f"{MODELS}/again", f"{MODELS}/demo_textures")
    copy.edit("beta: 0.5", "beta: 0.4")
    plan = copy.plan()
    assert plan["evaluate_scores"] == 2
    assert not {"train_model", "score_images", "extract_features", "prepare_images"} & set(plan)


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
    plan = copy.plan()
    assert [plan[rule] for rule in ("train_model", "score_images", "evaluate_scores")] == [1, 1, 1]
    assert not {"extract_features", "prepare_images", "fetch_data", "score_gradient"} & set(plan)
    assert set(plan) >= SUMMARIES


def test_branches_keep_their_checkpoints(pulled: Shared) -> None:
    """A retraining on a branch, back to main, and to the branch again."""
    before = pulled.model()
    pulled.call("git", "switch", "--quiet", "--create", "deeper")
    pulled.edit("flow: {steps: 1}", "flow: {steps: 2}")
    pulled.snakemake()
    after = pulled.model()
    assert after != before
    assert "1 changed" in pulled.track().stdout
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
    assert not (pulled.results() / MODEL).exists()
    assert pulled.plan()["train_model"] == 1
    pulled.track()
    assert ".dvc" not in pulled.status()
    pulled.call("git", "checkout", "--quiet", ".")
    pulled.call("dvc", "checkout", "--quiet")
    assert pulled.model() == before
    assert pulled.plan() == {}


def test_a_payload_that_is_only_partly_here_stays_recorded(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet", "data/prepared/again/brick/index.csv")
    index = copy.folder / "data/prepared/again/brick/index.csv"
    index.write_text(index.read_text() + "\n")
    said = copy.track().stderr
    assert "data/prepared/again is only partly here" in said
    assert "`dvc pull data/prepared/again`" in said
    assert copy.status() == ""


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
