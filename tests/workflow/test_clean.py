"""`aeflow clean` on a finished study: what it removes, and all that it leaves."""

import io
import json
import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.cli import main
from tests.workflow.conftest import Repository, Shared

Clean = Callable[..., tuple[int, str, str]]
DAY = 86_400
KINDS = ("models", "train", "scores", "galleries", "metrics")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Clean:
    """Return a function that runs the command in a folder, with an answer to its question."""

    def run(folder: Path, *options: str, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        status = main(["clean", *options])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return status, told.out, told.err

    return run


@pytest.fixture
def tiny(tiny: Repository) -> Repository:
    """With few overlays, each of which is read every time."""
    for overlay in (tiny.folder / "config/studies").iterdir():
        overlay.unlink()
    return tiny


def files(folder: Path) -> set[str]:
    """Return every file of data/ and results/."""
    found = [path for name in ("data", "results") for path in (folder / name).rglob("*")]
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


def write(path: Path, content: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def one_seed(folder: Path) -> None:
    """Let the study that was run have the first seed alone."""
    study = folder / "results/tiny/study.json"
    content = json.loads(study.read_text())
    study.write_text(json.dumps(content | {"seeds": [0]}))


def test_cells_that_no_study_has_go_and_nothing_else(tiny: Repository, clean: Clean) -> None:
    folder, results = tiny.folder, tiny.results()
    for name in ("data/raw/mine.zip", "data/prepared/mine/all/images.npy", "results/notes.md"):
        write(folder / name)
    write(results / "detectors/demo_textures-brick-aeflow-seed1.safetensors")
    write(results / "models/demo_textures/brick/aeflow/seed7.safetensors")  # no receipt
    before = files(folder)
    assert clean(folder) == (0, "There is nothing to remove.\n", "")

    one_seed(folder)  # but the overlay has two, and a run of it would want them
    assert clean(folder)[:2] == (0, "There is nothing to remove.\n")
    overlay = folder / "tiny.yaml"
    overlay.write_text(overlay.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    changed = results / "models/demo_textures/gravel/aeflow/seed1.safetensors"
    changed.write_bytes(changed.read_bytes() + b"\n")  # somebody's own by now
    elsewhere = folder / "elsewhere/gravel"
    shutil.move(results / "scores/demo_textures/gravel", elsewhere)
    (results / "scores/demo_textures/gravel").symlink_to(elsewhere)

    kept = ("models", "train", "scores", "galleries")  # of gravel: changed, or behind the link
    wanted = {
        name
        for name in before
        if re.fullmatch(rf"results/tiny/({'|'.join(KINDS)})/.*/seed1\.\w+", name)
        and not any(f"/{part}/demo_textures/gravel/" in name for part in kept)
    }
    assert len(wanted) > 10
    for answer, status, end in (("n\n", 1, "Nothing was removed."), ("", 1, "")):
        found, told, said = clean(folder, answer=answer)
        shown = re.findall(r"^ +[\d.]+ MB  (\S+)  \(in no variant of tiny\)$", told, re.M)
        assert (set(shown), found, told.rstrip().endswith(end)) == (wanted, status, True)
        assert said == ("" if answer else "aeflow: nothing was done, since nobody answered\n")
    assert clean(folder, answer="y\n")[0] == 0
    linked = {name for name in before if "/scores/demo_textures/gravel/" in name}
    assert files(folder) == before - wanted - linked
    assert len([*elsewhere.rglob("seed1.*")]) > 1
    assert not (results / "metrics/demo_textures/brick/aeflow/seed1.json").exists()
    # Of the study that is left nothing is missing; tables of one seed are others.
    assert not {"train_model", "score_images", "extract_features"} & tiny.plan().keys()


def test_data_of_no_study_and_no_overlay_goes(tiny: Repository, clean: Clean) -> None:
    folder = tiny.folder
    shutil.rmtree(tiny.results())
    (folder / "tiny.yaml").rename(folder / "config/studies/mine.yaml")
    (folder / "config/demo.yaml").unlink()
    assert clean(folder, "--yes")[1] == "There is nothing to remove.\n"
    more = "ablations: [{name: more, of: beta_half, key: loss.alpha, values: [0.3]}]\n"
    both = [folder / "config/studies/mine.yaml", write(folder / "more.yaml", more)]
    assert "If it is used with others, name all" in clean(folder, "--yes")[2]
    told = clean(folder, "--yes", *map(str, both))[1]
    assert told == "There is nothing to remove.\n", "by whichever path"
    both[1].unlink()
    (folder / "elsewhere").mkdir()
    (folder / "config/studies/mine.yaml").rename(folder / "elsewhere/mine.yaml")
    assert clean(folder, "elsewhere/mine.yaml", "--yes")[1] == "There is nothing to remove.\n"
    before = files(folder)
    status, told, _ = clean(folder, "--yes")
    assert status == 0
    # The weights are needed by config/config.yaml; logs are nobody's payload.
    left = {name for name in before if "weights/" in name or name.startswith("results/")}
    assert files(folder) == left
    assert len(before - left) > 8
    assert f"Removed: {len(before - left)} files" in told
    assert not (folder / "data/features/efficientnet_lite0-stage3").exists()


def test_what_killed_jobs_left_goes(tiny: Repository, clean: Clean) -> None:
    host = re.sub(r"\W", "_", platform.node())[:20] or "host"
    dead = "4194304"  # above any process number
    prepared, raw = tiny.folder / "data/prepared/demo_textures/brick", tiny.folder / "data/raw"
    gone = [
        prepared / f".images.{host}-{dead}-0.part.npy",
        tiny.results() / f".report.elsewhere-{os.getpid()}-1.part.html",
        raw / ".gone.zip.images.tar",
        raw / ".gone.zip-files.json",
        tiny.results() / "scratch/demo_textures/brick/former/seed0.safetensors",
    ]
    stays = [
        prepared / f".images.{host}-{os.getpid()}-0.part.npy",  # somebody is writing it
        prepared / f".masks.elsewhere-{dead}-0.part.npy",  # perhaps
        raw / ".demo_textures.zip.images.tar",  # the next run goes on from there
        raw / ".gone.zip-lock",
        tiny.results() / "scratch/demo_textures/brick/aeflow/seed0.safetensors",
        tiny.folder / f"results/.mine.{host}-part.npy",
    ]
    for path in (*gone, *stays):
        write(path)
    os.utime(gone[1], (path.stat().st_mtime - 2 * DAY,) * 2)
    before = files(tiny.folder)
    status, _, _ = clean(tiny.folder, "--yes")
    assert status == 0
    removed = {(tiny.folder / name) for name in before - files(tiny.folder)}
    assert removed == set(gone)


def test_what_git_or_dvc_has_stays(copy: Shared, clean: Clean) -> None:
    """In a clone with its payload, whose overlay and study are no longer there."""
    copy.call("dvc", "pull", "--quiet")
    for name in ("tiny.yaml", "config/demo.yaml"):
        (copy.folder / name).unlink()
    one_seed(copy.folder)
    before = files(copy.folder)
    assert any(name.endswith(".npy") for name in before)
    assert clean(copy.folder, "--yes") == (0, "There is nothing to remove.\n", "")
    # Without the .dvc files git's receipts still keep their payload, and the other way round.
    for tracked in copy.folder.rglob("*.dvc"):
        if tracked.is_file():
            tracked.unlink()
    assert clean(copy.folder, "--yes") == (0, "There is nothing to remove.\n", "")
    assert files(copy.folder) == {n for n in before if not n.endswith(".dvc")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results/tiny/models/demo_textures.dvc", "outs: [{path: demo_textures, md5: a.dir}]"),
        ("models.dvc", "outs: [{path: results/tiny/models, md5: a.dir}]"),
        ("x.dvc", "{outs: [{path: demo_textures, md5: a.dir}], wdir: results/tiny/models}"),
    ],
)
def test_what_dvc_alone_has_stays(tiny: Repository, clean: Clean, name: str, content: str) -> None:
    """Without git, by a file of DVC above the payload; what it does not name goes."""
    folder = tiny.folder
    one_seed(folder)
    overlay = folder / "tiny.yaml"
    overlay.write_text(overlay.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    write(folder / name, content)
    before = files(folder)
    assert clean(folder, "--yes")[0] == 0
    gone = {name.split("/")[2] for name in before - files(folder)}
    assert gone == {"scores", "galleries", "metrics"}, "of a model its receipt stays too"


def test_where_it_is_not_known_what_is_needed_nothing_goes(
    tiny: Repository, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.folder
    one_seed(folder)
    (folder / "tiny.yaml").unlink()
    before = files(folder)
    lock = write(folder / ".snakemake/locks/0.input.lock")
    assert "aeflow: A run is under way here" in clean(folder, "--yes")[2]
    lock.unlink()
    mine = write(folder / "mine.yaml", "seeds: [0\n")
    assert "aeflow: mine.yaml is no valid YAML" in clean(folder, "--yes")[2]
    write(mine, "seeds: [0]\nflwo: {}\n")
    assert "What mine.yaml needs is not known, so nothing is removed" in clean(folder, "--yes")[2]
    mine.unlink()
    old = write(folder / "results/old/study.json", '{"flwo": 1}')
    told = clean(folder, "--yes")[2]
    assert "What results/old/study.json needs is not known" in told
    shutil.rmtree(old.parent)
    (folder / ".git").mkdir()  # of which git knows nothing
    assert "Git cannot say which files it has" in clean(folder, "--yes")[2]
    (folder / ".git").rmdir()
    write(folder / "data/x.dvc", "outs: 3")
    assert "data/x.dvc is no valid .dvc file" in clean(folder, "--yes")[2]
    (folder / "data/x.dvc").unlink()
    assert files(folder) == before
    (folder / "config").rename(folder / "configuration")
    assert "go to the folder of the repository" in clean(folder, "--yes")[2]
    assert files(folder) == before
