"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = sorted(Path("aeflow").rglob("*.py"))
HEAVY_ROOMS = ("aeflow.encoder", "aeflow.models", "aeflow.methods", "aeflow.training")
WITH_TORCH = {"aeflow.core.tensors", "aeflow.scoring.score_images"}


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which no digest would see"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_package_knows_nothing_of_the_workflow(path: Path) -> None:
    above = {"snakemake", "dvc", "scripts", "workflow", "tests", "benchmarks"}
    assert not above & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_display_and_questions_draw(path: Path) -> None:
    drawing = {"matplotlib", "jinja2"} & {name.split(".")[0] for name in imports(path)}
    assert not drawing or path.parts[1] in ("display", "questions", "report")


def test_evaluation_and_reports_need_no_torch() -> None:
    """So that metrics, tables and figures are made on a machine without it, and at once."""
    free = [
        name
        for name in map(name_of, MODULES)
        if name not in WITH_TORCH and not name.startswith(HEAVY_ROOMS)
    ]
    code = f"""
import importlib, sys
for name in {free}:
    importlib.import_module(name)
    heavy = {{"torch", "timm", "torchvision", "torchmetrics"}} & sys.modules.keys()
    assert not heavy, (name, heavy)
"""
    assert {
        "aeflow.judging.evaluation",
        "aeflow.methods.gradient",
        "aeflow.questions.curves",
    } <= set(free)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_none_is_a_drawer(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "misc", "common"}


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert "pickle" not in imports(path)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            named = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            function = ast.unparse(call.func)
            if function == "np.load":
                assert named.get("allow_pickle") == "False", path
            if function == "torch.load":
                assert named.get("weights_only") == "True", path
