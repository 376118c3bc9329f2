"""The digest of a rule's code: what changes it, what does not, and whether it sees everything."""

from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from aeflow.core import code_digest as provenance
from aeflow.core.code_digest import (
    NOR_DO,
    SHAPES_NO_NUMBER,
    code_digest,
    imported_files,
    significant_source,
)

SCRIPTS = sorted(Path("scripts").glob("*.py"))
FILES = {
    "scripts/run.py": '''"""Run."""

from aeflow.first import first

first()
''',
    "aeflow/__init__.py": "",
    "aeflow/first.py": '''"""First."""


def first():
    """Return it."""
    from aeflow.deep import second  # late

    return second.VALUE
''',
    "aeflow/deep/__init__.py": "",
    "aeflow/deep/second.py": '"""Second."""\n\nVALUE = "# no comment"  # a comment\n',
    "aeflow/other.py": "VALUE = 1\n",
    "aeflow/core/errors.py": "TEXT = 1\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project of the same form, which is the working folder."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest() -> str:
    """Return the digest as a new process would."""
    significant_source.cache_clear()
    provenance._imports.cache_clear()
    return code_digest(Path("scripts/run.py"))


@pytest.fixture(autouse=True)
def _no_trace() -> None:
    significant_source.cache_clear()
    provenance._imports.cache_clear()


def edit(name: str, old: str, new: str) -> None:
    content = Path(name).read_text()
    assert content.count(old) == 1
    Path(name).write_text(content.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("aeflow/first.py", '"""First."""', '"""First.\n\nOn several lines.\n"""'),
        ("aeflow/first.py", '    """Return it."""\n', ""),
        ("aeflow/first.py", "# late", "# imported late"),
        ("aeflow/first.py", "  # late\n\n", "\n"),
        ("aeflow/deep/second.py", "# a comment", "# another"),
        ("scripts/run.py", "first()\n", "first()\n\n\n# The end.\n"),
        ("aeflow/other.py", "1", "2"),  # nothing imports it
        ("aeflow/core/errors.py", "1", "2"),  # shapes no number
    ],
)
def test_what_leaves_the_digest(project: Path, name: str, old: str, new: str) -> None:
    before = digest()
    edit(name, old, new)
    assert digest() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scripts/run.py", "first()\n", "first(), first()\n"),
        ("aeflow/first.py", "second.VALUE", "second.VALUE * 2"),
        ("aeflow/deep/second.py", '"# no comment"', '"# no remark"'),
        ("aeflow/deep/second.py", "VALUE =", "if True:\n    VALUE ="),
        ("scripts/run.py", "\nfirst()", "\nfrom aeflow import other\nfirst()"),
        ("scripts/run.py", "\nfirst()", "\nimport aeflow.other\nfirst()"),
    ],
)
def test_what_changes_the_digest(project: Path, name: str, old: str, new: str) -> None:
    before = digest()
    edit(name, old, new)
    assert digest() != before


def test_a_renamed_module_changes_the_digest(project: Path) -> None:
    before = digest()
    Path("aeflow/deep/second.py").rename("aeflow/deep/third.py")
    edit("aeflow/first.py", "import second ", "import third as second ")
    assert digest() != before


def test_the_digest_is_the_same_in_every_folder(project: Path) -> None:
    files = {path.as_posix() for path in imported_files(Path("scripts/run.py"))}
    assert files == {"scripts/run.py", "aeflow/first.py", "aeflow/deep/second.py"} | {
        "aeflow/deep/__init__.py"
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_digest_of_a_script_covers_all_it_imports(script: Path) -> None:
    """Against the standard library's own search for imports."""
    left_alone = [
        name
        for path in Path("aeflow").rglob("*.py")
        for name in [".".join(path.with_suffix("").parts)]
        if name in NOR_DO or name.startswith(SHAPES_NO_NUMBER)
    ]
    finder = ModuleFinder(path=["."], excludes=left_alone)
    finder.run_script(str(script))
    found = {name: module for name, module in finder.modules.items() if name[:7] == "aeflow."}
    expected = {script, *(Path(m.__file__).relative_to(Path.cwd()) for m in found.values())}
    left_out = expected - imported_files(script)
    # `from aeflow.data.prepared import ...` runs the package's __init__ too: see below.
    assert {path for path in left_out if path.name != "__init__.py"} == set()
    assert imported_files(script) <= expected


def test_packages_hold_no_code_in_their_init() -> None:
    for path in Path("aeflow").rglob("__init__.py"):
        code = significant_source(path)
        assert code == "" or path == Path("aeflow/__init__.py"), path


def test_the_modules_left_out_exist() -> None:
    for name in (*NOR_DO, *SHAPES_NO_NUMBER):
        path = Path(*name.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name


def test_scripts_of_rules_depend_on_the_code_that_makes_their_numbers() -> None:
    """Hand-picked: the modules without which a result would not be what it is."""
    needed = {
        "train_model": ["training/trainer", "models/losses", "models/flow", "encoder/features"],
        "score_images": ["scoring/score_images", "models/components", "models/flow"],
        "extract_features": ["encoder/features", "encoder/encoder"],
        "fetch_weights": ["encoder/weights"],
        "evaluate_scores": ["judging/evaluation", "judging/metrics", "scoring/combine"],
        "prepare_images": ["data/prepare", "data/decode", "data/splits"],
        "score_gradient": ["methods/gradient"],
    }
    for rule, modules in needed.items():
        found = imported_files(Path(f"scripts/{rule}.py"))
        assert {Path(f"aeflow/{name}.py") for name in modules} <= found, rule
