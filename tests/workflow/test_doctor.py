"""`aeflow doctor`: what somebody changed behind the workflow's back is found."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.cli import main
from tests.workflow.conftest import CELL, Repository

Examine = Callable[[], tuple[int, list[str]]]
RESULTS = "results/tiny"


@pytest.fixture
def examine(
    tiny: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Examine:
    """Run the command in `tiny`; return its status and lines, the verdict aside."""

    def run() -> tuple[int, list[str]]:
        monkeypatch.chdir(tiny.folder)
        status = main(["doctor", "tiny.yaml"])
        *findings, verdict = capsys.readouterr().out.splitlines()
        assert verdict.startswith("tiny: passed" if status == 0 else "tiny: failed, findings: ")
        return status, findings

    return run


def edited(path: Path, pattern: str, new: str) -> None:
    """Edit a file by hand; the pattern must be there."""
    text, count = re.subn(pattern, new, path.read_text(), count=1)
    assert count == 1, pattern
    path.write_text(text)


def test_a_finished_study_is_sound_and_absent_payload_is_not_judged(
    tiny: Repository, examine: Examine
) -> None:
    assert examine() == (0, [])
    for folder in ("data/prepared", "data/features", "data/weights", "data/raw"):
        shutil.rmtree(tiny.folder / folder)
    shutil.rmtree(tiny.results() / "models")
    shutil.rmtree(tiny.results() / "galleries")
    assert examine() == (0, [])


PREPARED = "data/receipts/prepared/demo_textures/brick.json"
WEIGHTS = "data/receipts/weights/efficientnet_lite0.json"
TRAINED, METRICS = f"{RESULTS}/train/{CELL}.json", f"{RESULTS}/metrics/{CELL}.json"
OTHER = TRAINED.replace("seed0", "seed1")
DAMAGE = (b"", b"{", b"[]", b'{"made": 1}', b"\xff")


def test_an_edited_receipt_is_found(tiny: Repository, examine: Examine) -> None:
    edits = {
        PREPARED: (r'("train_normal": )\d+', r"\g<1>7"),
        WEIGHTS: (r'("library": )"\w+"', r'\1"torchvision"'),
        TRAINED: (r'("python": )"[\d.]+"', r'\1"3.99.0"'),
        METRICS: (r'("image_auroc": )[\d.]+', r"\g<1>0.99999"),
    }
    for name, (pattern, new) in edits.items():
        edited(tiny.folder / name, pattern, new)
    status, findings = examine()
    assert status == 1
    said = " was edited by hand: restore it"
    assert {line.partition(said)[0] for line in findings if said in line} == edits.keys()


def test_a_file_that_is_another_one_is_found(tiny: Repository, examine: Examine) -> None:
    features = "features/efficientnet_lite0-stage3/demo_textures/brick"
    receipts = {
        f"{RESULTS}/models/{CELL}.safetensors": TRAINED,
        f"{RESULTS}/train/{CELL}.csv": TRAINED,
        f"{RESULTS}/scores/{CELL}.csv": f"{RESULTS}/scores/{CELL}.json",
        f"{RESULTS}/galleries/{CELL}.npz": f"{RESULTS}/scores/{CELL}.json",
        "data/prepared/demo_textures/brick/images.npy": PREPARED,
        "data/prepared/demo_textures/brick/index.csv": PREPARED,
        "data/weights/efficientnet_lite0.safetensors": WEIGHTS,
        f"data/{features}.npy": f"data/receipts/{features}.json",
        "data/raw/demo_textures.zip": "data/receipts/raw/demo_textures.json",
    }
    for name in receipts:
        with (tiny.folder / name).open("ab") as file:
            file.write(b"\n")
    status, findings = examine()
    assert status == 1
    found = re.findall(r"^(\S+) is not the file that (\S+) names", "\n".join(findings), re.M)
    assert dict(found) == receipts


def test_what_was_made_from_something_else_is_found(tiny: Repository, examine: Examine) -> None:
    """A training and its receipt of another seed, a whole and sealed pair."""
    other = CELL.replace("seed0", "seed1")
    for kind, ending in (("models", "safetensors"), ("train", "json"), ("train", "csv")):
        place = f"{RESULTS}/{kind}/{{}}.{ending}"
        shutil.copyfile(tiny.folder / place.format(other), tiny.folder / place.format(CELL))
    status, findings = examine()
    assert status == 1
    assert any(
        line.startswith(f"{TRAINED} is not what is configured (seed: 1, not 0)")
        for line in findings
    )
    assert any(line.startswith(f"{RESULTS}/scores/{CELL}.json was made from") for line in findings)


def test_metrics_that_do_not_follow_from_the_scores_are_found(
    tiny: Repository, examine: Examine
) -> None:
    """Score table, receipt and metrics' receipt sealed anew, by one who knows how."""
    from aeflow.core.receipts import _seal

    content = json.loads((tiny.folder / METRICS).read_text())
    content["facts"]["variants"]["aeflow"]["image_auroc"] = 0.99999
    del content["seal"]
    (tiny.folder / METRICS).write_text(json.dumps(content | {"seal": _seal(content)}))
    status, findings = examine()
    assert status == 1
    assert findings == [
        f"{METRICS} does not follow from {RESULTS}/scores/{CELL}.csv ({findings[0].split('(')[1]}"
    ]
    assert "variants.aeflow.image_auroc: 0.99999" in findings[0]


def test_another_configuration_and_other_versions_are_found(
    tiny: Repository, examine: Examine
) -> None:
    edited(tiny.folder / "requirements.lock", r"\nnumpy==[\d.]+", "\nnumpy==1.0.0")
    edited(tiny.folder / "tiny.yaml", "steps: 2", "steps: 3")
    status, findings = examine()
    assert status == 1
    assert any("and the lock says 1.0.0" in line for line in findings)
    assert any("is not what is configured (settings.flow.steps: 2, not 3)" in f for f in findings)


def test_a_damaged_receipt_is_a_finding(tiny: Repository, examine: Examine) -> None:
    damaged = dict(zip((PREPARED, WEIGHTS, TRAINED, METRICS, OTHER), DAMAGE, strict=True))
    for name, content in damaged.items():
        (tiny.folder / name).write_bytes(content)
    status, findings = examine()
    assert status == 1
    for name in damaged:
        assert any(line.startswith(name) and "delete it" in line for line in findings)


def test_payload_that_its_dvc_file_does_not_record_is_found(
    tiny: Repository, examine: Examine
) -> None:
    tracked = tiny.results() / "models/demo_textures.dvc"
    tracked.write_text("outs:\n- md5: 0123.dir\n  nfiles: 4\n  path: demo_textures\n")
    status, findings = examine()
    assert status == 1
    assert "is not what results/tiny/models/demo_textures.dvc records" in findings[0]
    tracked.write_text("outs: 3")
    assert "is no valid .dvc file" in examine()[1][0]


def test_a_study_of_which_nothing_is_here_is_a_finding(tiny: Repository, examine: Examine) -> None:
    shutil.rmtree(tiny.results())
    assert examine()[1] == [
        "No results of study tiny are in results/tiny: was it run, and is its overlay missing?"
    ]
