"""Two people, one study: what git and DVC carry from one's folder to the other's."""

from pathlib import Path

from tests.workflow.conftest import CELL, Shared, digest

MODELS, GALLERIES = "results/tiny/models", "results/tiny/galleries"
FEATURES = "data/features/efficientnet_lite0-stage3/demo_textures"
WEIGHTS = "data/weights/efficientnet_lite0.safetensors"
SMALL = {".dvc", ".json", ".csv", ".md", ".tex", ".svg", ".png", ".html"}
EXPENSIVE = {"train_model", "extract_features", "prepare_images", "fetch_data", "fetch_weights"}


def test_small_files_are_in_git_and_payload_in_dvc(author: Shared) -> None:
    tracked = author.call("git", "ls-files").stdout.splitlines()
    expected = {
        *(f"{folder}/demo_textures.dvc" for folder in ("data/prepared", MODELS, GALLERIES)),
        "results/tiny/browse/data.dvc",
        *(f"{name}.dvc" for name in ("data/raw/demo_textures.zip", FEATURES, WEIGHTS)),
    }
    assert {name for name in tracked if name.endswith(".dvc")} == expected
    made = [name for name in tracked if name.startswith(("data/", "results/tiny"))]
    assert {Path(name).suffix for name in made} == SMALL
    for name in ("study.json", "metrics.json", "report.html", "tables/main.csv"):
        assert f"results/tiny/{name}" in made
    for name in (f"train/{CELL}.json", f"scores/{CELL}.csv", f"scores/{CELL}.json"):
        assert f"results/tiny/{name}" in made
    figures = [Path(name) for name in made if "/figures/" in name]
    photographs = [name for name in figures if name.suffix == ".png"]
    assert {name.name.split("-")[0] for name in photographs} == {"panels"}, "the others are lines"
    assert len(set(figures)) == len({name.stem for name in figures}), "one format of each"
    for name in tracked:
        assert (author.folder / name).stat().st_size < 5_000_000, name
    assert author.status() == ""


def test_a_clone_has_nothing_to_do_with_and_without_a_pull(copy: Shared) -> None:
    for pull in (False, True):
        if pull:
            copy.call("dvc", "pull", "--quiet")
            examined = copy.call("aeflow", "doctor", copy.overlay).stdout
            assert examined.startswith("tiny: passed")
        assert "Nothing to be done" in copy.snakemake().stderr
        copy.track()
        assert copy.status() == "", "what is absent stays recorded"
    a_retraining_is_lost_and_comes_back(copy)


def a_retraining_is_lost_and_comes_back(copy: Shared) -> None:
    """It fails, is not forgotten, is not handed over, and is undone."""
    model = copy.folder / f"{MODELS}/{CELL}.safetensors"
    before = digest(model)
    copy.edit("threads: 1}", "threads: 1, device: mps}")
    assert copy.snakemake(f"{MODELS}/{CELL}.safetensors", check=False).returncode != 0
    assert not model.exists()
    assert copy.plan()["train_model"] == 4
    copy.track()
    assert copy.call("git", "diff", "--cached", "--name-only").stdout == ""
    copy.call("git", "checkout", "--quiet", "HEAD", ".")
    copy.call("dvc", "checkout", "--quiet")
    assert digest(model) == before
    assert copy.plan() == {}


def test_with_the_checkpoints_alone_another_beta_trains_nothing(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet", f"{MODELS}/demo_textures")
    copy.call("git", "switch", "--quiet", "--create", "judged")
    copy.edit("beta: 0.5", "beta: 0.4")
    plan = copy.plan()
    assert plan["evaluate_scores"] == 4
    assert not {"score_images", *EXPENSIVE} & plan.keys()
    before = digest(copy.results() / "metrics.json")
    refused = copy.snakemake(check=False)
    assert refused.returncode == 1
    assert f"`dvc pull {GALLERIES}/demo_textures`" in refused.stderr, "for the example images"
    copy.call("dvc", "pull", "--quiet", f"{GALLERIES}/demo_textures")
    copy.snakemake()
    assert digest(copy.results() / "metrics.json") != before
    assert "tiny: passed" in copy.call("aeflow", "doctor", copy.overlay).stdout
    assert "DVC: 0 new, 0 changed" in copy.track().stdout
    copy.commit("Another weight of the score")
    for branch in ("main", "judged"):
        copy.call("git", "switch", "--quiet", branch)
        assert copy.plan() == {}


def test_what_a_new_row_needs_is_pulled_and_no_more(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet", "data/prepared/demo_textures", FEATURES, WEIGHTS)
    copy.edit(
        "ablations:\n", "ablations:\n  - {name: deep, of: aeflow, key: flow.steps, values: [4]}\n"
    )
    plan = copy.plan()
    assert (plan["train_model"], plan["score_images"], plan["evaluate_scores"]) == (4, 4, 4)
    assert not (EXPENSIVE - {"train_model"}) & plan.keys()


def test_nothing_of_a_half_made_change_is_handed_over(copy: Shared) -> None:
    """Neither the part of the payload that is here, nor the small files of other jobs."""
    name = "data/prepared/demo_textures/brick/index.csv"
    copy.call("dvc", "pull", "--quiet", name)
    index = copy.folder / name
    index.write_text(index.read_text() + "\n")
    refused = copy.track(check=False)
    assert refused.returncode == 1
    assert "data/prepared/demo_textures is only partly here (new or changed: " in refused.stderr
    assert "Nothing was handed over" in refused.stderr
    assert copy.status() == ""


def test_detectors_go_along_and_what_a_dvcignore_names_stays(copy: Shared) -> None:
    copy.call("dvc", "pull", "--quiet")
    copy.call("git", "rm", "--quiet", f"{MODELS}/demo_textures.dvc", f"{WEIGHTS}.dvc")
    (copy.results() / ".dvcignore").write_text("/models/*/gravel/\n")
    (copy.folder / "data/.dvcignore").write_text("/weights/*\n")
    copy.call("aeflow", "pack", "tiny", "demo_textures", "aeflow", "--category", "brick")
    assert "DVC: 2 new, 0 changed" in copy.track().stdout
    assert not (copy.folder / f"{WEIGHTS}.dvc").exists()
    copy.commit("A part of it, and a detector")
    copy.call("dvc", "push", "--quiet")
    other = Shared(copy.folder.with_name("other"))
    copy.call("git", "clone", "--quiet", str(copy.folder), str(other.folder))
    other.call("dvc", "pull", "--quiet", "results/tiny/detectors", f"{MODELS}/demo_textures")
    assert len([*other.results().glob("models/*/brick/*/*")]) == 2
    assert not [*other.results().glob("models/*/gravel")]
    assert len([*other.results().glob("detectors/*")]) == 1
    assert "Nothing to be done" in other.snakemake().stderr


def test_what_is_ignored_later_or_gone_from_a_remade_folder_leaves_its_record(
    copy: Shared,
) -> None:
    copy.call("dvc", "pull", "--quiet")
    (copy.results() / ".dvcignore").write_text("/models/*/gravel/\n")
    remade, gone = sorted((copy.results() / "browse/data").glob("*.js"))[:2]
    remade.write_text(remade.read_text() + "\n")
    gone.unlink()
    assert "DVC: 0 new, 2 changed" in copy.track().stdout
    copy.commit("Less than there was")
    copy.call("dvc", "push", "--quiet")
    other = Shared(copy.folder.with_name("less"))
    copy.call("git", "clone", "--quiet", str(copy.folder), str(other.folder))
    other.call("dvc", "pull", "--quiet", MODELS + "/demo_textures", "results/tiny/browse/data")
    models = other.results() / "models/demo_textures"
    assert [path.name for path in models.iterdir()] == ["brick"]
    page = other.results() / "browse/data"
    assert (page / remade.name).read_text().endswith("\n\n")
    assert not (page / gone.name).exists()


def test_dvc_repro_has_nothing_to_do_where_the_study_is_there(copy: Shared) -> None:
    """dvc.yaml names the study of config.yaml: here that is the tiny one."""
    (copy.folder / "config/config.yaml").write_text((copy.folder / "tiny.yaml").read_text())
    pipeline = (copy.folder / "dvc.yaml").read_text()
    (copy.folder / "dvc.yaml").write_text(pipeline.replace("results/paper", "results/tiny"))
    assert "Nothing to be done" in copy.call("dvc", "repro").stderr


def test_studies_that_are_not_tracked_never_show(copy: Shared) -> None:
    for name in (
        "results/demo/report.html",
        "results/demo/browse/data/images0-0.js",
        "results/demo/models/demo_textures/brick/aeflow/seed0.safetensors",
        "results/demo/galleries/demo_textures/brick/aeflow/seed0.npz",
        "data/receipts/raw/other.json",
        "data/prepared/other/all/images.npy",
        "data/features/efficientnet_lite0-stage2/other/all.npy",
        ".snakemake/metadata/cmVzdWx0cy9kZW1vL3JlcG9ydC5odG1s",
    ):
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert copy.status() == ""
