"""`aeflow doctor`: what somebody changed behind the workflow's back is found."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aeflow.cli import main
from tests.workflow.conftest import Repository

CELL = "demo_textures/brick/aeflow/seed0"
Examine = Callable[[], tuple[int, list[str]]]


@pytest.fixture
def examine(
    tiny: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Examine:
    """Run the command in `tiny`; return its status and lines, the verdict aside."""

    def run() -> tuple[int, list[str]]:
        monkeypatch.chdir(tiny.folder)
        status = main(["doctor", "--configfile", "tiny.yaml"])
        *findings, verdict = capsys.readouterr().out.splitlines()
        tables = list((tiny.results() / "scores").rglob("*.csv"))
        assert verdict.endswith("metrics without their scores: 3") == (not tables)
        assert verdict.startswith("tiny: passed" if status == 0 else "tiny: failed, findings: ")
        return status, findings

    return run


def replace(path: Path, pattern: str, new: str) -> None:
    """Edit a file by hand; the pattern must be there."""
    text, count = re.subn(pattern, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def test_a_finished_study_is_sound(examine: Examine) -> None:
    assert examine() == (0, [])


def test_absent_payload_is_not_judged(tiny: Repository, examine: Examine) -> None:
    for folder in ("data/prepared", "data/features", "data/weights", "data/raw"):
        shutil.rmtree(tiny.folder / folder)
    shutil.rmtree(tiny.results() / "models")
    shutil.rmtree(tiny.results() / "scores")
    assert examine() == (0, [])


def test_a_swapped_checkpoint_is_found(tiny: Repository, examine: Examine) -> None:
    model = tiny.results() / f"models/{CELL}.safetensors"
    shutil.copyfile(tiny.folder / "data/weights/efficientnet_lite0.safetensors", model)
    status, findings = examine()
    assert status == 1
    assert findings == [
        f"results/tiny/models/{CELL}.safetensors is not the file that "
        f"results/tiny/train/{CELL}.json describes (another SHA-256): "
        "restore it from git and DVC, or delete it and run snakemake."
    ]


def test_a_checkpoint_swapped_with_its_summary_is_found(
    tiny: Repository, examine: Examine
) -> None:
    """Both belong together; the scores were made by another one."""
    replace(tiny.results() / f"train/{CELL}.json", r'"model_sha256": "\w+"', '"model_sha256": "0"')
    (tiny.results() / f"models/{CELL}.safetensors").unlink()
    status, findings = examine()
    assert status == 1
    assert any(f"scored/{CELL}.json" in line and "checkpoint_sha256" in line for line in findings)


def test_an_edited_metric_is_found(tiny: Repository, examine: Examine) -> None:
    metrics = tiny.results() / f"metrics/{CELL}.json"
    content = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(content | {"image_auroc": 0.99999}))
    status, findings = examine()
    assert status == 1
    assert any(f"metrics/{CELL}.json does not follow from" in line for line in findings)


def test_an_edited_score_is_found(tiny: Repository, examine: Examine) -> None:
    scores = tiny.results() / f"scores/{CELL}.csv"
    table = pd.read_csv(scores)
    normal = table.index[(table["split"] == "test") & (table["gt_label"] == 0)][0]
    table.loc[normal, ["density", "ssim"]] = 1e6
    table.to_csv(scores, index=False)
    status, findings = examine()
    assert status == 1
    assert findings[0].startswith(
        f"results/tiny/scores/{CELL}.csv is not the file that results/tiny/scored/{CELL}.json "
    )


def test_an_edited_gallery_is_found(tiny: Repository, examine: Examine) -> None:
    with (tiny.results() / f"scores/{CELL}.npz").open("ab") as gallery:
        gallery.write(b"more")
    status, findings = examine()
    assert status == 1
    assert len(findings) == 1
    assert findings[0].startswith(f"results/tiny/scores/{CELL}.npz is not the file that ")


def test_metrics_of_other_scores_are_found_without_the_scores(
    tiny: Repository, examine: Examine
) -> None:
    """Scored again elsewhere; the metrics are those of before."""
    shutil.rmtree(tiny.results() / "scores")
    replace(
        tiny.results() / f"scored/{CELL}.json", r'"scores_sha256": "\w+"', '"scores_sha256": "0"'
    )
    status, findings = examine()
    assert status == 1
    for variant in ("aeflow", "beta_half"):
        metrics = f"results/tiny/metrics/demo_textures/brick/{variant}/seed0.json"
        assert any(
            line.startswith(f"{metrics} is not made from what results/tiny/scored/{CELL}.json ")
            for line in findings
        )


@pytest.mark.parametrize("name", ["results.csv", "main.csv", "main.md", "results.tex"])
def test_an_edited_table_is_found(tiny: Repository, examine: Examine, name: str) -> None:
    replace(tiny.results() / "tables" / name, r"(\d)\.(\d)", r"\1.9\2")
    status, findings = examine()
    assert status == 1
    assert len(findings) == 1
    assert f"tables/{name} does not follow from the metrics" in findings[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("claims.csv", "the metrics"),
        ("claims.tex", "the metrics"),
        ("categories.csv", "the metrics"),
        ("categories.md", "the metrics"),
        ("choice.md", "results/tiny/tables/choice.csv"),
        ("comparison.tex", "results/tiny/tables/comparison.csv"),
    ],
)
def test_an_edited_table_that_rests_on_more_is_found(
    tiny: Repository, examine: Examine, name: str, source: str
) -> None:
    with (tiny.results() / "tables" / name).open("a") as table:
        table.write("one more line\n")
    status, findings = examine()
    assert status == 1
    assert len(findings) == 1
    assert f"tables/{name} does not follow from {source}" in findings[0]


def test_each_table_is_judged_by_itself(tiny: Repository, examine: Examine) -> None:
    """Whatever else is gone: the table as data, and another table as data."""
    tables = tiny.results() / "tables"
    (tables / "results.csv").unlink()
    (tables / "main.csv").unlink()
    assert examine() == (0, [])
    replace(tables / "main.md", r"(\d)\.(\d)", r"\1.9\2")
    replace(tiny.results() / "metrics.json", r"0\.", "0.9")
    status, findings = examine()
    assert status == 1
    assert [line.split()[0] for line in findings] == [
        "results/tiny/tables/main.md",
        "results/tiny/metrics.json",
    ]


def test_tables_whose_metrics_are_missing_are_found(tiny: Repository, examine: Examine) -> None:
    (tiny.results() / f"metrics/{CELL}.json").unlink()
    assert examine() == (
        1,
        [
            "results/tiny/tables cannot be compared with the metrics: "
            f"results/tiny/metrics/{CELL}.json missing or wrong: restore from git, or delete "
            "and run snakemake; then examine again."
        ],
    )


def test_a_fusion_of_other_scores_is_found(tiny: Repository, examine: Examine) -> None:
    """A member was scored again behind the workflow's back, its JSON included."""
    fusion = "  - {name: both, method: fusion, members: [beta_half, gradient]}\nseeds:"
    replace(tiny.folder / "tiny.yaml", "seeds:", fusion)
    tiny.snakemake("results/tiny/metrics/demo_textures/brick/both/seed0.json")
    fused = "results/tiny/scored/demo_textures/brick/both/seed0.json"
    assert not any(line.startswith(fused) for line in examine()[1])
    scores = tiny.results() / f"scores/{CELL}.csv"
    scores.write_text(scores.read_text().replace("good", "fine"))
    digest = hashlib.sha256(scores.read_bytes()).hexdigest()
    scored = tiny.results() / f"scored/{CELL}.json"
    replace(scored, r'"scores_sha256": "\w+"', f'"scores_sha256": "{digest}"')
    status, findings = examine()
    assert status == 1
    assert any(
        line.startswith(f"{fused} is not made from its members' scores (beta_half_table_sha256")
        for line in findings
    )


def test_a_stale_table_is_found(tiny: Repository, examine: Examine) -> None:
    """A metrics file of a later evaluation under the table of an earlier one."""
    tables = tiny.results() / "tables"
    before = (tables / "main.csv").read_bytes(), (tables / "results.csv").read_bytes()
    replace(tiny.folder / "tiny.yaml", "beta: 0.5", "beta: 0.1")
    tiny.snakemake("results/tiny/metrics/demo_textures/brick/beta_half/seed0.json")
    assert before == ((tables / "main.csv").read_bytes(), (tables / "results.csv").read_bytes())
    status, findings = examine()
    assert status == 1
    assert {line.split()[0] for line in findings} >= {
        "results/tiny/tables/results.csv",
        "results/tiny/tables/main.csv",
        "results/tiny/metrics.json",
    }


def test_another_configuration_is_found(tiny: Repository, examine: Examine) -> None:
    replace(tiny.folder / "tiny.yaml", "steps: 2", "steps: 3")
    replace(tiny.folder / "tiny.yaml", "image_size: 64", "image_size: 96")
    status, findings = examine()
    assert status == 1
    assert [line.split(":")[0] for line in findings] == [
        "data/manifests/prepared/demo_textures/brick.json is not what is configured "
        "(settings.image_size",
        f"results/tiny/train/{CELL}.json is not what is configured (settings.flow.steps",
    ]


def test_other_versions_than_the_locks_are_found(tiny: Repository, examine: Examine) -> None:
    replace(tiny.results() / f"train/{CELL}.json", r'"timm": "[^"]+"', '"timm": "0.1"')
    status, findings = examine()
    assert status == 1
    assert "was made with timm 0.1, and the lock says" in findings[0]


def test_payload_that_its_dvc_file_does_not_record_is_found(
    tiny: Repository, examine: Examine
) -> None:
    tracked = "outs:\n- md5: {}\n  hash: md5\n  path: demo_textures.zip\n"
    (tiny.folder / "data/raw/demo_textures.zip.dvc").write_text(tracked.format("f" * 32))
    status, findings = examine()
    assert status == 1
    assert findings[0].startswith(
        "data/raw/demo_textures.zip is not what data/raw/demo_textures.zip.dvc records"
    )


@pytest.mark.parametrize("content", ["{", "{}", "[1]"])
def test_a_damaged_json_is_a_finding(tiny: Repository, examine: Examine, content: str) -> None:
    for name in (
        "data/manifests/raw/demo_textures.json",
        "data/manifests/prepared/demo_textures/brick.json",
        "data/manifests/features/efficientnet_lite0-stage3/demo_textures/brick.json",
        "data/manifests/weights/efficientnet_lite0.json",
        f"results/tiny/train/{CELL}.json",
        f"results/tiny/scored/{CELL}.json",
        f"results/tiny/metrics/{CELL}.json",
        "results/tiny/metrics.json",
    ):
        before = (tiny.folder / name).read_text()
        (tiny.folder / name).write_text(content)
        status, findings = examine()
        assert status == 1, name
        assert sum(line.startswith(name) for line in findings) == 1, name
        (tiny.folder / name).write_text(before)


@pytest.mark.parametrize(
    ("folder", "keys"),
    [
        ("train", ["fit_seconds", "best_epoch", "versions", "model_sha256", "settings"]),
        ("scored", ["pixel", "scores_sha256", "checkpoint_sha256", "gallery_sha256"]),
        ("metrics", ["image_auroc", "intervals", "seed", "settings"]),
    ],
)
def test_a_json_without_a_key_is_a_finding(
    tiny: Repository, examine: Examine, folder: str, keys: list[str]
) -> None:
    path = tiny.results() / f"{folder}/{CELL}.json"
    content = json.loads(path.read_text())
    for key in keys:
        absent = {name: value for name, value in content.items() if name != key}
        for damaged in (absent, content | {key: [{}]}):
            path.write_text(json.dumps(damaged))
            status, findings = examine()
            assert status == 1, key
            assert any(f"results/tiny/{folder}/{CELL}.json" in line for line in findings), key


def test_a_damaged_dvc_file_is_a_finding(tiny: Repository, examine: Examine) -> None:
    for content in (b"", b"[]", b"outs: 1", b"outs: [{path: x}]", b"outs: [", b"\xff"):
        (tiny.folder / "data/raw/demo_textures.zip.dvc").write_bytes(content)
        status, findings = examine()
        assert status == 1
        assert len(findings) == 1, content
        assert findings[0].startswith("data/raw/demo_textures.zip.dvc is no valid .dvc file")


@pytest.mark.parametrize("name", ["results.csv", "main.md", "choice.csv", "weighting.csv"])
def test_a_damaged_table_is_a_finding(tiny: Repository, examine: Examine, name: str) -> None:
    for content in (b"", b"\xff\x00", b'a,b\n"', b"dataset,variant\n1,2,3\n"):
        (tiny.results() / "tables" / name).write_bytes(content)
        status, findings = examine()
        assert status == 1, content
        assert findings[0].startswith(f"results/tiny/tables/{name}"), content


def test_a_number_that_is_none_is_a_finding(tiny: Repository, examine: Examine) -> None:
    replace(tiny.results() / "tables/weighting.csv", r"\b0\.\d+", "many")
    status, findings = examine()
    assert status == 1
    assert findings[0].startswith("results/tiny/tables/weighting.csv")


def test_metrics_of_scores_that_nothing_describes_are_found(
    tiny: Repository, examine: Examine
) -> None:
    (tiny.results() / f"scored/{CELL}.json").unlink()
    for _ in range(2):
        status, findings = examine()
        assert status == 1
        assert any(f"scored/{CELL}.json is missing" in line for line in findings)
        shutil.rmtree(tiny.results() / "scores", ignore_errors=True)


def test_a_study_of_which_nothing_is_here_is_a_finding(
    tiny: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name comes from config/config.yaml where the overlay was forgotten."""
    monkeypatch.chdir(tiny.folder)
    assert main(["doctor"]) == 1
    finding, verdict = capsys.readouterr().out.splitlines()
    assert finding == (
        "No results of study paper are in results/paper: was it run, and is --configfile missing?"
    )
    assert verdict.startswith("paper: failed, findings: 1, ")
