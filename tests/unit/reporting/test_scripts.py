import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeflow.gallery import write_gallery
from aeflow.reporting.published import CLAIM_COLUMNS

ROOT = Path(__file__).parents[3]


def run(name, *arguments):
    """Call a script's main as the command line would."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def listed(path, files):
    path.write_text("".join(f"{file}\n" for file in files))
    return f"@{path}"


def test_from_metrics_to_the_report(
    make_run, scored_run, scores, gallery, write_runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)  # cards are looked for in config/datasets
    runs = [
        scored_run | {"dataset": "chest_xray", "seed": 0},
        make_run(dataset="chest_xray", seed=1),
        make_run(dataset="chest_xray", variant="gradient", encoder=None, best_epoch=None),
    ]
    metrics = write_runs(runs)
    tables, figures = tmp_path / "tables", tmp_path / "figures"
    several = listed(tmp_path / "metrics.txt", metrics)
    run(
        *["aggregate_metrics", "--metrics", several],
        *["--results", tables / "results.csv", "--main", tables / "main.csv"],
    )
    run(
        *["make_tables", "--results", tables / "results.csv", "--main", tables / "main.csv"],
        *["--published", "config/published.yaml", "--folder", tables],
    )
    assert sorted(path.name for path in tables.iterdir()) == [
        *["claims.csv", "claims.md", "claims.tex", "main.csv", "main.md", "main.tex"],
        *["results.csv", "results.md", "results.tex"],
    ]
    claims = pd.read_csv(tables / "claims.csv", dtype={"printed": str})
    assert list(claims.columns) == CLAIM_COLUMNS
    assert claims["printed"][0] == "98.15"
    assert set(claims["verdict"][claims["dataset"] == "oct2017"]) == {"not run"}

    scores.to_csv(tmp_path / "scores.csv", index=False)
    difference = (255 * gallery["difference"]).astype(np.uint8)
    write_gallery(tmp_path / "gallery.npz", {**gallery, "difference": difference})
    train = tmp_path / "train" / "chest_xray" / "all" / "aeflow" / "seed0.json"
    train.parent.mkdir(parents=True)
    train.write_text(
        '{"seed": 0, "best_epoch": 2, "settings": {}, "device": "cpu", "versions": {}}'
    )
    columns = [
        f"{s}_{p}" for s in ("train", "val") for p in ("loss", "flow_nll", "reconstruction")
    ]
    history = pd.DataFrame({"epoch": [1, 2], **{name: [2.0, 1.0] for name in columns}})
    history.to_csv(tmp_path / "history.csv", index=False)
    one = ["--scores", tmp_path / "scores.csv", "--metrics", metrics[0]]
    for name, inputs in (
        ("plot_roc", ["--metrics", several]),
        ("plot_scores", one),
        ("plot_training", ["--history", tmp_path / "history.csv", "--train", train]),
        ("plot_panels", ["--gallery", tmp_path / "gallery.npz", *one]),
    ):
        files = [figures / f"{name}.png", figures / f"{name}.svg"]
        run(name, *inputs, "--png", files[0], "--svg", files[1])
        assert files[0].read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in files[1].read_bytes()

    drawn = sorted(figures.glob("*.svg"))
    run(
        *["build_report", "--study", "mine", "--published", "config/published.yaml"],
        *["--datasets", '[{"name": "chest_xray"}]'],
        *["--results", tables / "results.csv", "--main", tables / "main.csv"],
        *["--metrics", several, "--train", train],
        *["--figures", listed(tmp_path / "figures.txt", drawn)],
        *["--report", tmp_path / "report.html"],
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4
    assert "Chest X-ray (Kermany 2018)" in page


def test_every_history_needs_its_training(tmp_path, capsys):
    two = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(SystemExit):
        run(
            *["plot_training", "--history", *two, "--train", tmp_path / "a.json"],
            *["--png", tmp_path / "x.png", "--svg", tmp_path / "x.svg"],
        )
    assert "as many --train as --history" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(tmp_path):
    command = [sys.executable, "scripts/aggregate_metrics.py", "--metrics", "nowhere.json"]
    outputs = ["--results", str(tmp_path / "r.csv"), "--main", str(tmp_path / "m.csv")]
    done = subprocess.run(
        [*command, *outputs, "--log", str(tmp_path / "log")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere.json is missing" in done.stderr
    assert not (tmp_path / "r.csv").exists()


def test_reporting_does_not_import_torch():
    modules = sorted(path.stem for path in (ROOT / "aeflow" / "reporting").glob("*.py"))
    imports = "; ".join(f"import aeflow.reporting.{module}" for module in modules)
    code = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
