"""`aeflow ls`, `compare` and `open`, on studies whose results lie in files."""

import re
import shutil
import webbrowser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aeflow
from aeflow.cli import main
from aeflow.commands.studies import find_study
from aeflow.core.files import write_json
from aeflow.judging.delong import compare_aurocs
from aeflow.report.headline import headline, write_headline
from aeflow.results import Results
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.cells import path
from aeflow.study.study import Study
from tests.unit.small_results import small_study, write_results, write_tables

ROOT = Path(__file__).parents[3]
SCORES = Path("results/other/scores/chest_xray/all/aeflow")
DATASETS = [{"name": "chest_xray"}]


def write_study(study: Study) -> None:
    write_results(study)
    write_tables(study)
    write_json(path(study, "study", {}), study.model_dump(mode="json"))
    path(study, "report", {}).write_text("<p>")
    write_headline(study, path(study, "headline", {}))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the studies `small` and `other`. Not to be changed."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "config").symlink_to(ROOT / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_study(small_study(datasets=DATASETS, ablations=[]))
        half = {"name": "aeflow", "settings": {"score": {"beta": 0.5}}}
        mine = {"name": "mine", "method": "flow"}
        gradient = {"name": "gradient", "method": "gradient"}
        changes = {"study": "other", "datasets": DATASETS, "ablations": [], "seeds": [0]}
        write_study(small_study(**changes, variants=[half, mine, gradient]))
    return folder


@pytest.fixture
def two(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, to be changed."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True, symlinks=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *command: str, status: int = 0) -> tuple[str, str]:
    assert main([*command]) == status
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.out, told.err


def row(table: str, *names: str) -> list[str]:
    """Return the cells of the only line that begins with these names."""
    cells = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    (found,) = (line for line in cells if tuple(line[: len(names)]) == names)
    return found


def test_studies_are_listed_with_what_they_lack(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(capsys, "ls")
    assert row(out, "small")[3:5] == ["complete", "chest_xray"]
    main_table = pd.read_csv("results/small/tables/main.csv").set_index("variant")
    highest = main_table["image_auroc_mean"].sort_values(ascending=False)
    told = [f"{name} {100 * value:.1f}" for name, value in highest[:3].items()]
    assert row(out, "small")[5] == f"{', '.join(told)}, ..."
    best = highest.index[0]
    shown = row(headline(find_study("small")), "chest_xray", best)[2:4]  # at the end of a run
    assert shown == [
        f"{100 * main_table[name][best]:.1f}" for name in ("image_auroc_mean", "f1_mean")
    ]
    for seed in (0, 1):
        Path(f"results/small/metrics/chest_xray/all/aeflow/seed{seed}.json").unlink()
    Path("results/other/report.html").unlink()
    Path("results/old").mkdir()
    Path("results/old/study.json").write_text('{"study": "old", "flwo": {}}')
    out, err = said(capsys, "ls", status=1)
    assert row(out, "small")[3] == "lacks 2 of 6 cells"
    assert row(out, "other")[3] == "lacks the report"
    assert row(out, "old")[3] == "cannot be read"
    assert "old: results/old/study.json: unknown key 'flwo'" in err


def test_no_study_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no studies in results/ yet" in said(capsys, "ls")[0]


def test_two_studies_are_compared_image_by_image(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another order of the images too: the test pairs them by their names."""
    other = SCORES / "seed0.csv"
    write_scores(other, read_scores(other).iloc[::-1])
    out, _ = said(capsys, "compare", "small", "results/other")
    found = row(out, "chest_xray", "aeflow")
    first, second = aeflow.load("results/small"), aeflow.load("results/other")
    one = np.column_stack([_test_scores(first, seed) for seed in (0, 1)])
    labels = first.scores("chest_xray", "aeflow").query("split == 'test'")["gt_label"]
    wanted = compare_aurocs(labels.to_numpy(), _test_scores(second, 0), one)
    assert wanted.p_value is not None
    assert wanted.difference is not None
    assert found[2] == f"{100 * (wanted.second or 0):.1f} / {100 * (wanted.first or 0):.1f}"
    assert found[4] == f"{100 * wanted.difference:+.1f}".replace("-", "−")
    p = min(1, wanted.p_value)  # the gradient's has none: a family of one test
    assert found[-1] == (f"{p:.2g}" if p < 0.1 else f"{p:.2f}")
    assert "No test of chest_xray/gradient: The difference is 0 for every image" in out
    assert "  score.beta: 0.9, not 0.5 (chest_xray/aeflow)" in out
    assert "  seeds: [0, 1], not [0]" in out
    assert "Only small has, on chest_xray: flow, ensemble" in out
    assert "Only other has, on chest_xray: mine" in out


def _test_scores(study: Results, seed: int) -> np.ndarray:
    table = study.scores("chest_xray", "aeflow", seed=seed)
    ordered = table[table["split"] == "test"].sort_values("image_id")
    return ordered["pred_score"].to_numpy()


def test_where_nothing_can_be_tested_the_reason_is_told(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SCORES / "seed0.csv"
    table = read_scores(other)
    write_scores(other, table.assign(image_id="x" + table["image_id"]))
    out, _ = said(capsys, "compare", "small", "other")
    assert "No test of chest_xray/aeflow: Other test images (all)." in out
    assert " / " in row(out, "chest_xray", "aeflow")[2]  # the numbers stand there all the same
    other.unlink()
    out, _ = said(capsys, "compare", "small", "other")
    assert f"No test of chest_xray/aeflow: {other} is missing" in out


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["small", "smal"], "no study smal in results/ (did you mean small?)"),
        (["small", "small"], "small is compared with itself"),
        (["small", "copy"], "results/copy/study.json is of the study other, whose files"),
        (["small", "far"], "No named variant on a dataset is in both: small has aeflow,"),
        (["small", "cut"], "results/cut/study.json is no valid JSON"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_sentence(
    two: Path, capsys: pytest.CaptureFixture[str], names: list[str], words: str
) -> None:
    shutil.copytree("results/other", "results/copy")
    far = small_study(study="far", datasets=[{"name": "isic2018"}], ablations=[])
    write_json(path(far, "study", {}), far.model_dump(mode="json"))
    Path("results/cut").mkdir()
    Path("results/cut/study.json").write_text("{")
    _, err = said(capsys, "compare", *names, status=1)
    assert err.startswith("aeflow: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_folder_of_images_called_like_a_study_is_not_taken_for_it(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("small").mkdir()
    assert "Percent, small / other" in said(capsys, "compare", "small", "other")[0]


def test_the_report_is_opened(
    two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a browser that tells what it was asked for."""
    opened = two / "opened"
    browser = two / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    browser.chmod(0o755)
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setattr(webbrowser, "_browsers", {})
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    assert said(capsys, "open", "small")[0] == "results/small/report.html\n"
    Path("results/other/report.html").write_text("<p>newer")
    assert said(capsys, "open")[0] == "results/other/report.html\n"
    told = opened.read_text().splitlines()
    assert told == [(two / f"results/{name}/report.html").as_uri() for name in ("small", "other")]
    Path("results/other/report.html").unlink()
    assert "no results/other/report.html yet" in said(capsys, "open", "other", status=1)[1]
    monkeypatch.setenv("BROWSER", "/no/such/browser %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "No browser was found" in said(capsys, "open", "small", status=1)[1]
