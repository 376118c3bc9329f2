"""The runner: what a script is given by name, and the receipt of what it made."""

import json
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.files import write_text
from aeflow.core.receipts import read_receipt, write_receipt
from aeflow.core.schema import load_yaml, validate
from aeflow.study.cells import Cell, asked, path
from aeflow.study.study import Study

ROOT = Path(__file__).parents[3]
CARD = """
{name: d, title: D, licence: none, citation: none, files: [{name: d.zip}], counts: {all: null},
layout: {image: "(?P<split>test)/(?P<defect>a)/b", mask: c, normal: good}}
"""
IMPORTS = """
import logging
import sys
from pathlib import Path

from aeflow.core.errors import DataError
from aeflow.study.asked import FetchAsked, JudgeAsked, ScoreAsked, WeightsAsked
from aeflow.study.job import job
from aeflow.study.study import Study
"""
SCORE = """
def score_images(
    asked: ScoreAsked, images: Path, index: Path, masks: Path, features: Path | None,
    weights: Path | None, model: Path | None, trained: Path | None, scores: Path, gallery: Path,
) -> dict:
    print(asked.method, images, features, weights, model, trained)
    logging.getLogger("aeflow.some.module").warning("%d images are gray", 3)
    for path in (scores, gallery):
        path.parent.mkdir(parents=True)
        path.write_text(path.suffix)
    return {"pixel": {}, "n": len(images.read_text())}
"""
JUDGE = """
def evaluate_scores(
    asked: JudgeAsked, scores: Path, scored: Path, prepared: Path, trained: list[Path],
    statistics: Path | None,
) -> dict:
    print(sorted(asked.variants), [path.name for path in trained], statistics)
    return {"n": 1}
"""
WEIGHTS = """
def fetch_weights(asked: WeightsAsked, weights: Path) -> dict:
    weights.parent.mkdir(parents=True)
    weights.write_text(asked.encoder)
    return {"sha256": {"weights": "f" * 64}, "library": "timm"}
"""
FETCH = """
def fetch_data(asked: FetchAsked, archive: Path) -> dict:
    archive.parent.mkdir(parents=True)
    archive.write_text(asked.card.name)
"""
TABLE = """
def make_table(study: Study, table: str, csv: Path, workers: int, more: Path | None = None):
    print(study.study, table, csv, workers + 1, more)
"""


def hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose folder is the working one, with prepared images."""
    content = {
        "study": "s",
        "datasets": [{"name": "d"}],
        "variants": [{"name": "one"}, {"name": "base", "method": "gradient"}],
        "seeds": [0],
    }
    found = validate(Study, content, "study")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    write_text(Path("config/datasets/d.yaml"), CARD)
    where = {"dataset": "d", "category": "all"}
    for receipt, names in {"prepared": ("images", "index"), "prepared_masks": ("masks",)}.items():
        made = {path(found, name, where): hashed(name) for name in names}
        for file in made:
            write_text(file, "pulled")
        given = {"made": made, "origin": {}, "settings": {}, "facts": {"counts": {}}}
        write_receipt(path(found, receipt, where), **given)
    file = path(found, "study", {})
    file.parent.mkdir(parents=True)
    file.write_text(found.model_dump_json())
    return found


def run(function: str, *options: str, log: str = "log") -> subprocess.CompletedProcess[str]:
    name = function.partition("def ")[2].partition("(")[0]
    code = f"{IMPORTS}\nsys.argv[0] = 'scripts/{name}.py'\n{function}\njob({name})\n"
    command = [sys.executable, "-c", code, "--study", "results/s/study.json", *options]
    return subprocess.run([*command, "--log", log], capture_output=True, text=True)


def of(given: Mapping[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


BASE = Cell("d", "all", "base", 0)


def test_a_script_is_given_its_files_and_its_receipt_says_what_it_did(study: Study) -> None:
    done = run(SCORE, *of(BASE._asdict()))
    assert (done.returncode, done.stderr) == (0, "")
    images = path(study, "images", BASE)
    assert done.stdout.split() == ["gradient", str(images), *["None"] * 4]

    receipt = read_receipt(path(study, "scored", BASE))
    assert receipt.sealed
    assert receipt.made == {
        "results/s/scores/d/all/base/seed0.csv": hashed(".csv"),
        "results/s/galleries/d/all/base/seed0.npz": hashed(".npz"),
    }
    # Payload as the receipt names it: it is large, and not read once more.
    prepared = {f"data/prepared/d/all/{n}.npy": hashed(n) for n in ("images", "masks")}
    assert receipt.origin == prepared | {"data/prepared/d/all/index.csv": hashed("index")}
    assert receipt.settings == asked(study, "score_images", BASE._asdict()).as_json()
    assert receipt.facts == {"pixel": {}, "n": 6}
    assert receipt.warnings == ["3 images are gray"]
    assert {"python", "aeflow"} <= receipt.versions.keys()
    assert "3 images are gray" in Path("log").read_text()


def test_lists_of_files_and_receipts_that_are_read(study: Study) -> None:
    one = Cell("d", "all", "one", 0)
    for name in ("scores", "scored", "trained"):
        file = path(study, name, one)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    done = run(JUDGE, *of(one._asdict()))
    assert done.stdout == "['one'] ['seed0.json'] None\n", done.stderr
    receipt = read_receipt(path(study, "metrics", one))
    prepared = path(study, "prepared", one)
    assert receipt.made == {}
    assert receipt.origin == {
        **{path(study, n, one).as_posix(): hashed(n) for n in ("scores", "scored", "trained")},
        prepared.as_posix(): sha256(prepared.read_bytes()).hexdigest(),
    }


def test_digests_that_a_script_knows_are_not_computed_again(study: Study) -> None:
    done = run(WEIGHTS, "--encoder", "resnet18")
    assert done.returncode == 0, done.stderr
    receipt = read_receipt(Path("data/receipts/weights/resnet18.json"))
    assert receipt.made == {"data/weights/resnet18.safetensors": "f" * 64}
    assert receipt.facts == {"library": "timm"}


@pytest.mark.usefixtures("study")
def test_a_file_comes_before_the_wildcard_of_its_name() -> None:
    card = load_yaml(ROOT / "config/datasets/folder_mvtec.yaml")
    card |= {"name": "d", "files": [{"name": "d.zip"}]}
    write_text(Path("config/datasets/d.yaml"), json.dumps(card))
    assert run(FETCH, "--archive", "d").stderr == ""
    assert Path("data/raw/d.zip").read_text() == "d"


@pytest.mark.usefixtures("study")
def test_a_table_has_the_whole_study_and_no_receipt() -> None:
    before = sorted(Path().rglob("*.json"))
    done = run(TABLE, "--table", "main", "--workers", "3")
    assert done.stdout == "s main results/s/tables/main.csv 4 None\n", done.stderr
    assert run(TABLE, "--table", "main", "--workers", "1", "--more", "x").stdout.endswith(" 2 x\n")
    assert sorted(Path().rglob("*.json")) == before


def test_an_error_is_a_sentence_and_leaves_no_receipt(study: Study) -> None:
    failing = SCORE.replace(
        "    print", '    raise DataError("images.npy is\\n gray.")\n    print'
    )
    done = run(failing, *of(BASE._asdict()), log="logs/x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "score_images.py: images.npy is gray.\n"
    assert "Traceback (most recent call last)" in Path("logs/x").read_text()
    assert not path(study, "scored", BASE).exists()


def test_payload_without_its_receipt_is_a_sentence(study: Study) -> None:
    prepared = path(study, "prepared", BASE)
    content = json.loads(prepared.read_text())
    del content["made"]["data/prepared/d/all/images.npy"]
    prepared.write_text(json.dumps(content))
    said = "score_images.py: No receipt names data/prepared/d/all/images.npy: delete the receipt"
    done = run(SCORE, *of(BASE._asdict()))
    assert done.stderr.startswith(said)
    assert done.stdout == "", "before hours of work"


@pytest.mark.usefixtures("study")
def test_a_study_that_is_not_there_or_another_is_a_sentence() -> None:
    file = Path("results/s/study.json")
    file.write_text('{"betas": []}')
    assert "study.json: unknown key 'betas'" in run(TABLE, "--table", "main").stderr
    file.unlink()
    assert "study.json is missing: snakemake writes it" in run(TABLE, "--table", "main").stderr
