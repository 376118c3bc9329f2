import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(name, *arguments):
    """Call a script's main as the command line would."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_every_history_needs_its_training(tmp_path, capsys):
    two = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(SystemExit):
        run(
            *["plot_training", "--history", *two, "--train", tmp_path / "a.json"],
            *["--png", tmp_path / "x.png", "--svg", tmp_path / "x.svg"],
        )
    assert "as many --train as --history" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(tmp_path):
    cells = '{"tiles": {"categories": ["all"], "seeds": {"aeflow": [0]}}}'
    command = [sys.executable, "scripts/aggregate_metrics.py"]
    command += ["--folder", str(tmp_path), "--cells", cells]
    outputs = ["--results", str(tmp_path / "r.csv"), "--main", str(tmp_path / "m.csv")]
    outputs += ["--headline", str(tmp_path / "m.json")]
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
    assert "metrics/tiles/all/aeflow/seed0.json is missing" in done.stderr
    assert not (tmp_path / "r.csv").exists()


def test_reporting_does_not_import_torch():
    modules = sorted(path.stem for path in (ROOT / "aeflow" / "questions").glob("*.py"))
    imports = "; ".join(f"import aeflow.questions.{module}" for module in modules)
    code = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
