"""The house: who may import whom, and what each room may do."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

# From the ground up; after the rooms, the modules on top of them.
ROOMS = (
    *("core", "study", "data", "encoder", "models", "methods", "training", "scoring", "judging"),
    *(
        "display",
        "detector",
        "questions",
        "report",
        "cluster",
        "doctor",
        "results",
        "commands",
        "cli",
        "__main__",
    ),
)
MODULES = sorted(Path("aeflow").rglob("*.py"))
IN_ROOMS = [path for path in MODULES if path != Path("aeflow/__init__.py")]
WITHOUT_TORCH = (
    *("study", "data", "judging", "display", "questions"),
    *("doctor", "commands", "cli", "cluster"),
)
SINGLE = ("methods.gradient", "scoring.combine", "scoring.predictions", "scoring.score_tables")


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which no digest would see"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def tops(path: Path) -> set[str]:
    """Return the packages that a file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def room(module: str) -> int:
    """Return how high the room of a module of the package is."""
    return ROOMS.index(module.split(".")[1])


def test_no_room_imports_a_higher_one() -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in IN_ROOMS
        for name in sorted(imports(path))
        if name.startswith("aeflow.") and room(name) > room(name_of(path))
    ]
    assert wrong == []


def test_the_package_knows_nothing_of_what_uses_it() -> None:
    users = {"snakemake", "dvc", "scripts", "workflow", "tests", "benchmarks"}
    assert [path for path in MODULES if users & tops(path)] == []


def test_every_room_says_in_a_line_what_belongs_there_and_holds_no_code() -> None:
    rooms = {path.parent.name: path for path in Path("aeflow").glob("*/__init__.py")}
    assert set(rooms) == {name for name in ROOMS if Path("aeflow", name).is_dir()}
    for path in rooms.values():
        tree = ast.parse(path.read_text())
        line = ast.get_docstring(tree) or ""
        assert len(tree.body) == 1, path
        assert re.fullmatch(r".+\.", line), path


def test_no_file_is_a_drawer() -> None:
    files = [*MODULES, *Path("tests").rglob("*.py"), *Path("scripts").glob("*.py")]
    assert {path.stem for path in files} & {"utils", "helpers", "misc", "common"} == set()


def test_only_the_upper_rooms_draw() -> None:
    drawing = [path for path in MODULES if {"matplotlib", "jinja2"} & tops(path)]
    assert {path.parts[1] for path in drawing} <= {"display", "questions", "report", "results.py"}


def test_nothing_is_unpickled() -> None:
    assert [path for path in MODULES if {"pickle", "dill", "joblib", "shelve"} & tops(path)] == []
    safe = {"np.load": "allow_pickle=False", "torch.load": "weights_only=True"}
    wrong = [
        f"{path}: {ast.unparse(call)}"
        for path in MODULES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and (needed := safe.get(ast.unparse(call.func)))
        and needed not in map(ast.unparse, call.keywords)
    ]
    assert wrong == []


def loaded(names: list[str]) -> set[str]:
    """Return the packages in memory once these modules are imported, in a process of its own."""
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
print(*{{name.partition(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def in_rooms(*rooms: str) -> list[str]:
    return [name_of(path) for path in IN_ROOMS if name_of(path).split(".")[1] in rooms]


def test_what_needs_no_torch_starts_without_it() -> None:
    """So that metrics, tables and figures are made on a machine without it, and at once."""
    core = [name for name in in_rooms("core") if name != "aeflow.core.tensors"]
    single = [f"aeflow.{name}" for name in SINGLE]
    names = [*core, *in_rooms(*WITHOUT_TORCH), *single]
    assert not {"torch", "timm", "torchvision", "torchmetrics"} & loaded(names)


def test_the_workflow_reads_the_study_at_once() -> None:
    names = [*in_rooms("study", "cluster"), "aeflow.core.code_digest", "aeflow.report.contents"]
    assert not {"numpy", "pandas", "matplotlib", "torch", "PIL"} & loaded(names)


def test_no_tracked_file_names_a_place_of_one_machine() -> None:
    listed = subprocess.check_output(["git", "ls-files", "-z"], text=True).split("\0")
    place = re.compile(rb"(?<![\w.}~-])/(?:home|root|Users|work|scratch)/\w")
    named = [name for name in listed if Path(name).is_file()]
    assert [name for name in named if place.search(Path(name).read_bytes())] == []


def test_a_file_has_its_name_when_it_is_complete() -> None:
    """Written by aeflow.core.files, or into what `atomic_path` gives."""
    writers = {"write_text", "write_bytes"}
    functions = {"savefig", "to_csv", "savez", "savez_compressed", "write_array_header_1_0"}
    wrong = []
    for path in [*MODULES, *Path("scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target = node.func.value if node.func.attr in writers else None
                if node.func.attr in functions and node.args:
                    target = node.args[0]
                if target is not None and ast.unparse(target) not in ("part", "index", "file"):
                    wrong.append(f"{path}: {ast.unparse(node)}")
    assert wrong == []
