"""The study that is published with the repository: what a clone and `dvc pull` bring."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aeflow.cli import main
from aeflow.scoring.gallery import read_gallery
from tests.workflow.conftest import ROOT, Shared, listed, once

STUDY = "config/studies/cpu.yaml"
RESULTS = "results/cpu"
# Made of receipts and score tables alone, in seconds.
JUDGED = {
    "evaluate_scores",
    "fuse_scores",
    "make_table",
    "plot_figure",
    "build_report",
    "build_browse",
}


class Clone(Shared):
    """A clone of the repository, with what is not committed yet in it."""

    overlay = STUDY


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone before and after `dvc pull`; what it has to do is looked at in between."""

    def make(folder: Path) -> None:
        clone = Clone(folder)
        # Not by links: what is transferred is what a stranger gets.
        clone.call("git", "clone", "--quiet", "--no-local", str(ROOT), ".")
        for name in listed("--modified", "--others"):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
            else:
                (folder / name).unlink()
        before = clone.plan()
        clone.call("dvc", "pull", "--quiet")
        (folder / "plans.json").write_text(json.dumps([before, clone.plan()]))

    return Clone(once(tmp_path_factory, "published", make))


def plans(pulled: Clone) -> list[dict[str, int]]:
    known: list[dict[str, int]] = json.loads((pulled.folder / "plans.json").read_text())
    return known


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_it_is_small(pulled: Clone) -> None:
    assert size(pulled.folder / "published") <= 60e6
    assert size(pulled.folder / ".git/objects") <= 80e6
    tracked = pulled.call("git", "ls-files", RESULTS).stdout.splitlines()
    assert not [name for name in tracked if name.endswith((".pdf", ".npz", ".safetensors"))]


def test_there_is_nothing_to_do_with_and_without_the_pull(pulled: Clone) -> None:
    """Until code that shapes numbers moves on: then it says what would be made again."""
    before, after = plans(pulled)
    assert before == after, "what was pulled changes nothing"
    if after:
        origin = pulled.call("git", "log", "-1", "--format=%h", "--", f"{RESULTS}/study.json")
        what = ", ".join(f"{count} {rule}" for rule, count in after.items())
        pytest.skip(
            f"{RESULTS} is of commit {origin.stdout.strip()}; since then code that shapes numbers "
            f"has moved on, so `make publish` would make again: {what}"
        )


def test_it_needs_no_peers(pulled: Clone, tmp_path: Path) -> None:
    """A laptop after the README's set-up has no anomalib."""
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["anomalib"] = None\n')
    hidden = f"PYTHONPATH={tmp_path}:{pulled.folder}"
    done = pulled.call("env", hidden, *pulled.command("--dry-run"), check=False)
    assert "anomalib" not in done.stderr
    assert done.returncode == 0


def test_another_beta_is_judged_again_without_training(pulled: Clone, tmp_path: Path) -> None:
    _, stale = plans(pulled)
    payload = ("models", "galleries", "detectors")
    left = {pulled.folder / ".git", pulled.folder / "published"}
    left |= {pulled.results("cpu") / name for name in payload}
    shutil.copytree(
        pulled.folder,
        tmp_path,
        ignore=lambda folder, names: {name for name in names if Path(folder, name) in left},
        dirs_exist_ok=True,
    )
    pulled = Clone(tmp_path)
    study = yaml.safe_load((pulled.folder / STUDY).read_text())
    for variant in study["variants"]:
        if variant["name"] == "aeflow_features":
            variant["settings"]["score"]["beta"] = 0.85
    overlay = pulled.folder / "beta.yaml"
    overlay.write_text(yaml.safe_dump({"variants": study["variants"]}))
    given = ("--configfile", STUDY, overlay.name)
    table = f"{RESULTS}/tables/main.csv"
    before = auroc(pulled, "chest_xray", "aeflow_features")
    if stale:  # other code than the study's: its receipts count as they are
        own = f"{RESULTS}/metrics/chest_xray/all/aeflow_features"
        judged = [f"{own}/seed{seed}.json" for seed in study["seeds"]]
        given = (*given, "--rerun-triggers", "mtime", "--forcerun", *judged)
    else:
        rules = pulled.plan(*given).keys()
        assert "evaluate_scores" in rules
        assert rules <= JUDGED
    pulled.snakemake(*given, "--", table)
    assert auroc(pulled, "chest_xray", "aeflow_features") != before
    assert auroc(pulled, "chest_xray", "gaussian") > 0.5


def auroc(clone: Clone, dataset: str, variant: str) -> float:
    rows = csv.DictReader((clone.results("cpu") / "tables/main.csv").read_text().splitlines())
    (found,) = [r for r in rows if (r["dataset"], r["variant"]) == (dataset, variant)]
    return float(found["image_auroc_mean"])


def test_it_is_sound_and_dvc_shows_it(pulled: Clone) -> None:
    examined = pulled.call("aeflow", "doctor", STUDY).stdout
    assert examined.startswith("cpu: passed")
    assert "results/cpu/metrics.json" in pulled.call("dvc", "metrics", "show").stdout
    pulled.call("dvc", "plots", "show")
    shown = (pulled.folder / "dvc_plots/index.html").read_text()
    assert "recommended" in shown
    assert "chest_xray" in shown


def test_its_pages_open(pulled: Clone, open_page: Callable[..., Any]) -> None:
    page = open_page(pulled.results("cpu") / "report.html")
    assert page.locator("#main table").is_visible()
    page = open_page(pulled.results("cpu") / "browse/index.html")
    assert page.locator(".card img").first.is_visible()


def test_its_detectors_judge_a_new_image(
    pulled: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of the gallery, a small copy of one of the test's."""
    detectors = sorted(pulled.results("cpu").glob("detectors/*.safetensors"))
    assert {file.name.split("-")[0] for file in detectors} == {
        "chest_xray",
        "magnetic_tile",
        "mvtec_ad",
    }
    (gallery,) = pulled.results("cpu").glob("galleries/chest_xray/all/recommended/*.npz")
    images = read_gallery(gallery, ["image"])
    new = [tmp_path / "normal.jpg", tmp_path / "pneumonia.jpg"]
    for file, place in zip(new, (0, -1), strict=True):
        file.write_bytes(images["image"][place])
    monkeypatch.chdir(pulled.folder)
    for detector in detectors:
        out = tmp_path / detector.stem
        assert main(["predict", str(detector), *map(str, new), "--out", str(out)]) == 0
        rows = [*csv.DictReader((out / "predictions.csv").read_text().splitlines())]
        assert len(rows) == 2
        assert all(row["verdict"] in ("normal", "anomalous") for row in rows)


def test_each_number_of_the_readme_is_in_it(pulled: Clone) -> None:
    readme = (pulled.folder / "README.md").read_text()
    table = (pulled.results("cpu") / "tables/main.csv").read_text()
    published = [*csv.DictReader(table.splitlines())]
    sets = ("chest_xray", "magnetic_tile", "mvtec_ad")
    rows = re.findall(r"^\| .*?`(\w+)`.*?\|(.*)\|$", readme, re.MULTILINE)
    assert len(rows) >= 8, "a row names its variant"
    for variant, cells in rows:
        for dataset, cell in zip(sets, cells.split("|"), strict=True):
            known = [r for r in published if (r["dataset"], r["variant"]) == (dataset, variant)]
            wanted = [*map(as_shown, known)] or [""]  # not every variant runs on every set
            assert [cell.replace("*", "").strip()] == wanted, (dataset, variant)


def as_shown(row: dict[str, str]) -> str:
    """Return mean and sd of the image AUROC, in percent, and the mean AUPRO where there is one."""
    shown = f"{100 * float(row['image_auroc_mean']):.1f}"
    if row["image_auroc_sd"]:
        shown += f" ± {100 * float(row['image_auroc_sd']):.1f}"
    return shown + (f" ({100 * float(row['aupro_mean']):.1f})" if row["aupro_mean"] else "")
