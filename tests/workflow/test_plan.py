"""`aeflow plan`: what Snakemake's dry run would do, and what that takes."""

import re
from pathlib import Path

import pytest

from aeflow.cli import main
from aeflow.core.text import span
from tests.workflow.conftest import Repository


def planned(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, dict[str, list[str]]]:
    """Return what is printed of tiny.yaml, and the cells of each step's line."""
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("PYTHONPATH", str(repository.folder))
    assert main(["plan", "tiny.yaml"]) == 0
    told = capsys.readouterr().out
    lines = [re.split(r" {2,}", line.strip()) for line in told.splitlines()[2:]]
    return told, {line[0]: line[1:] for line in lines if len(line) > 1}


def test_a_clone_has_all_to_do_and_nothing_to_go_by(
    clone: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told, steps = planned(clone, monkeypatch, capsys)
    assert {step: int(line[0]) for step, line in steps.items()} == clone.plan()
    assert all(line[1] == "not there yet" for line in steps.values())
    assert {line[2] for line in steps.values()} == {"unknown"}
    assert "one after another: unknown;" in told


def test_what_is_planned_again_takes_what_it_took(
    tiny: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(tiny, monkeypatch, capsys)[0] == "tiny: nothing to be done\n"
    overlay = tiny.folder / "tiny.yaml"
    overlay.write_text(overlay.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    _, steps = planned(tiny, monkeypatch, capsys)
    assert {step: int(line[0]) for step, line in steps.items()} == tiny.plan()
    assert steps["train_model"][:2] == ["2", "not there yet"]  # brick and gravel, one seed
    took = [
        float(file.read_text().splitlines()[1].split("\t")[0])
        for file in Path("results/tiny/benchmarks/train_model").glob("*/*/aeflow/*.tsv")
    ]
    assert steps["train_model"][2] == span(2 * sum(took) / len(took))
    sizes = [
        file.stat().st_size
        for file in Path("results/tiny/models").glob("*/*/aeflow/*.safetensors")
    ]
    assert steps["train_model"][3] == f"{2 * sum(sizes) / len(sizes) / 1e6:.1f} MB"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.yaml", None, "gone.yaml does not exist"),
        ("wrong.yaml", "flwo: {}", "did you mean 'flow'?"),
        ("cut.yaml", "a: [", "cut.yaml is no valid YAML"),
        ("mine.yaml", "datasets: [{name: mine, card: folder_two, source: nowhere}]", "nowhere"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_sentence(
    clone: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | None,
    words: str,
) -> None:
    monkeypatch.chdir(clone.folder)
    monkeypatch.setenv("PYTHONPATH", str(clone.folder))
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["plan", str(tmp_path / name)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("aeflow: ")
    assert words in told.err
    assert "Traceback" not in told.err
