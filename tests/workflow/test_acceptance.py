"""The demo, shared: what docs/share.md promises, each time in a fresh clone."""

import hashlib
import shutil
from pathlib import Path

from tests.workflow.conftest import Repository, Shared
from tests.workflow.test_sharing import WEIGHTS

DEMO = "config/demo.yaml"
MODELS, SCORES = "results/demo/models/demo_textures", "results/demo/scores/demo_textures"
TO_TRAIN = [
    "data/prepared/demo_textures",
    "data/features/efficientnet_lite0-stage3/demo_textures",
    WEIGHTS,
]
FETCHED = {"fetch_data", "fetch_weights", "prepare_images", "extract_features"}
TABLES = dict.fromkeys(("aggregate_metrics", "choose_setting", "collect_ablations"), 1)
REPORT = dict.fromkeys(
    ("make_tables", "plot_ablations", "plot_categories", "plot_variants", "build_report"), 1
)


class SharedDemo(Shared):
    """A working copy of the demo."""

    overlay = DEMO

    def models(self) -> dict[str, str]:
        """Return the digests of the checkpoints."""
        found = sorted((self.folder / MODELS).rglob("*.safetensors"))
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found
        }


def test_the_demo_is_shared(demo: Repository, tmp_path: Path) -> None:
    author = SharedDemo(tmp_path / "author")
    shutil.copytree(demo.folder, author.folder)
    author.share(tmp_path / "store")

    def clone(name: str, *pull: str) -> SharedDemo:
        """Return a fresh clone, and in it what is given of the payload."""
        author.call("git", "clone", "--quiet", str(author.folder), str(tmp_path / name))
        found = SharedDemo(tmp_path / name)
        if pull:
            found.call("dvc", "pull", "--quiet", *pull)
        return found

    everything = clone("everything")
    everything.call("dvc", "pull", "--quiet")
    assert "Nothing to be done" in everything.snakemake().stderr
    examined = everything.call("aeflow", "doctor", "--configfile", DEMO).stdout
    assert examined.startswith("demo: passed")
    assert "without" not in examined
    everything.track()
    assert everything.status() == "", "nothing has changed"

    nothing = clone("nothing")
    assert "Nothing to be done" in nothing.snakemake().stderr
    examined = nothing.call("aeflow", "doctor", "--configfile", DEMO).stdout
    assert "demo: passed" in examined
    assert "metrics without their scores: " in examined
    nothing.track()
    assert nothing.status() == "", "what is absent stays recorded"

    a_retraining_is_lost_and_comes_back(everything)
    only_the_judging_is_done_again(clone("judge", MODELS), nothing)

    row = clone("row", *TO_TRAIN)
    row.edit("values: [1, 4]", "values: [1, 2, 4]", DEMO)
    # Two categories, two seeds.
    cells = dict.fromkeys(("train_model", "score_images", "evaluate_scores"), 4)
    assert row.plan() == cells | TABLES | REPORT

    deeper = clone("deeper", *TO_TRAIN)
    deeper.edit("flow: {steps: 4", "flow: {steps: 3", DEMO)
    plan = deeper.plan()
    # aeflow and the autoencoder, and the ablation's 4, which had shared a training.
    assert (plan["train_model"], plan["score_images"]) == (12, 12)
    assert not FETCHED & set(plan)


def only_the_judging_is_done_again(judge: SharedDemo, untouched: SharedDemo) -> None:
    """With the checkpoints alone nothing is trained; on a branch, and back."""
    judge.call("git", "switch", "--quiet", "--create", "judged")
    judge.edit("scaling: standardised", "scaling: standardised, beta: 0.4", DEMO)
    plan = judge.plan()
    assert plan["evaluate_scores"] == len(list(judge.results("demo").glob("metrics/*/*/*/*")))
    assert not {"train_model", "score_images", "score_gradient", *FETCHED} & set(plan)
    before = untouched.results("demo") / "metrics.json"
    refused = judge.snakemake(check=False)
    assert refused.returncode == 1
    assert f"Score files are needed that are not here: `dvc pull {SCORES}`" in refused.stderr
    assert (judge.results("demo") / "metrics.json").read_bytes() == before.read_bytes()

    judge.call("dvc", "pull", "--quiet", SCORES)
    judge.snakemake()
    assert (judge.results("demo") / "metrics.json").read_bytes() != before.read_bytes()
    assert "demo: passed" in judge.call("aeflow", "doctor", "--configfile", DEMO).stdout
    assert "DVC: 0 new, 0 changed" in judge.track().stdout
    judge.commit("Another weight of the score")
    for branch in ("main", "judged"):
        judge.call("git", "switch", "--quiet", branch)
        judge.call("dvc", "checkout", "--quiet", MODELS, SCORES)
        assert judge.plan() == {}


def a_retraining_is_lost_and_comes_back(study: SharedDemo) -> None:
    """It fails, is not forgotten, is not handed over, and is undone."""
    before = study.models()
    study.edit("threads: 1}", "threads: 1, device: mps}", DEMO)
    assert study.snakemake(check=False).returncode != 0
    assert study.models().keys() < before.keys()
    assert study.plan()["train_model"] > 0
    study.track(check=False)
    assert study.call("git", "diff", "--cached", "--name-only").stdout == ""
    study.call("git", "checkout", "--quiet", "HEAD", ".")
    study.call("dvc", "checkout", "--quiet")
    assert study.models() == before
    assert study.plan() == {}
