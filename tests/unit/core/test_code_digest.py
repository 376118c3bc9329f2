"""The digest of a rule's code: what changes it, what does not, and whether it sees everything."""

import ast
import io
import tokenize
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from aeflow.core import code_digest as module
from aeflow.core.code_digest import NOR_DO, SHAPES_NO_NUMBER, code_digest, imported_files
from aeflow.core.types import Method
from tests.unit.test_layers import tops

RUN = Path("scripts/run.py")
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
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small project of the same form is the working folder."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def forget() -> None:
    module._read.cache_clear()


def digest_after(name: str, old: str, new: str) -> str:
    content = Path(name).read_text()
    assert content.count(old) == 1
    Path(name).write_text(content.replace(old, new))
    module._read.cache_clear()
    return code_digest(RUN)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("aeflow/first.py", '"""First."""', '"""First.\n\nOn several lines.\n"""'),
        ("aeflow/first.py", '    """Return it."""\n', ""),
        ("aeflow/first.py", "# late", "# imported late"),
        ("aeflow/deep/second.py", "# a comment", "# another"),
        ("scripts/run.py", "first()\n", "first()\n\n\n# The end.\n"),
        ("aeflow/other.py", "1", "2"),  # nothing imports it
        ("aeflow/core/errors.py", "1", "2"),  # shapes no number
    ],
)
def test_what_leaves_the_digest(name: str, old: str, new: str) -> None:
    assert code_digest(RUN) == digest_after(name, old, new)


@pytest.mark.usefixtures("project")
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
def test_what_changes_the_digest(name: str, old: str, new: str) -> None:
    assert code_digest(RUN) != digest_after(name, old, new)


def test_what_counts_of_a_file_has_the_same_words_without_its_comments() -> None:
    """Against the standard library's own reading of all our code and of an awkward one."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    awkward = Path("tests/unit/core/test_code_digest.py")  # strings hold its comments, and quotes
    for path in [awkward, *Path("aeflow").rglob("*.py"), *Path("scripts").glob("*.py")]:
        source = path.read_text()
        tokens = [
            list(tokenize.generate_tokens(io.StringIO(text).readline))
            for text in (source, module.significant_source(path))
        ]
        assert not [t for t in tokens[1] if t.type == tokenize.COMMENT]
        words = [[t.string for t in found if t.type not in layout] for found in tokens]
        documented = sum(
            ast.get_docstring(n) is not None
            for n in ast.walk(ast.parse(source))
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)
        )
        assert len(words[0]) - len(words[1]) == documented, path


@pytest.mark.usefixtures("project")
def test_a_file_that_the_script_finds_by_name_counts() -> None:
    other = Path("aeflow/other.py")
    assert code_digest(RUN) != code_digest(RUN, other) == code_digest(other, RUN)


@pytest.mark.usefixtures("project")
def test_a_renamed_module_changes_the_digest_and_the_folder_does_not() -> None:
    files = {path.as_posix() for path in imported_files(RUN)}
    assert files == set(FILES) - {"aeflow/__init__.py", "aeflow/other.py", "aeflow/core/errors.py"}
    before = code_digest(RUN)
    Path("aeflow/deep/second.py").rename("aeflow/deep/third.py")
    assert before != digest_after("aeflow/first.py", "import second ", "import third as second ")


@pytest.mark.parametrize("script", sorted(Path("scripts").glob("*.py")), ids=lambda p: p.stem)
def test_the_digest_of_a_script_covers_all_it_imports(script: Path) -> None:
    """Against the standard library's own search for imports."""
    modules = [".".join(path.with_suffix("").parts) for path in Path("aeflow").rglob("*.py")]
    left_alone = [name for name in modules if name in NOR_DO or name.startswith(SHAPES_NO_NUMBER)]
    finder = ModuleFinder(path=["."], excludes=left_alone)
    finder.run_script(str(script))
    found = [module for name, module in finder.modules.items() if name.startswith("aeflow.")]
    expected = {script, *(Path(m.__file__).relative_to(Path.cwd()) for m in found)}
    # `from aeflow.data.prepared import ...` runs the room's __init__ too, which holds no code.
    assert {path for path in expected - imported_files(script) if path.stem != "__init__"} == set()
    assert imported_files(script) <= expected


def test_what_is_left_out_exists() -> None:
    for name in (*NOR_DO, *SHAPES_NO_NUMBER):
        path = Path(*name.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name


def test_what_is_left_out_computes_nothing() -> None:
    """Tensors are written as they are given, and the contents pass tables on."""
    places = [Path(*name.split(".")) for name in (*NOR_DO, *SHAPES_NO_NUMBER)]
    found = {path for place in places for path in (place.with_suffix(".py"), *place.rglob("*.py"))}
    computing = {"numpy", "pandas", "scipy", "sklearn", "torch", "PIL"}
    left_out = {path.stem for path in found if path.is_file() and computing & tops(path)}
    assert left_out == {"tensors", "contents"}


@pytest.mark.parametrize(
    ("rule", "modules"),
    [
        ("prepare_images", ["data/prepare", "data/decode", "data/splits"]),
        ("fetch_weights", ["encoder/weights"]),
        ("extract_features", ["encoder/features", "encoder/encoder"]),
        ("train_model", ["methods/aeflow", "training/trainer", "models/losses", "models/flow"]),
        ("score_images", ["methods/aeflow", "scoring/score_images", "models/components"]),
        ("fuse_scores", ["scoring/combine"]),
        ("evaluate_scores", ["judging/evaluation", "judging/metrics", "scoring/combine"]),
    ],
)
def test_a_rule_depends_on_the_code_that_makes_its_numbers(rule: str, modules: list[str]) -> None:
    """Hand-picked: without these a result would not be what it is."""
    method = [Method.AEFLOW.file] if "methods/aeflow" in modules else []
    found = imported_files(Path("scripts", f"{rule}.py"), *method)
    assert {Path("aeflow", f"{name}.py") for name in modules} <= found


def test_a_rule_depends_on_no_method_but_its_own() -> None:
    found = imported_files(Path("scripts/train_model.py"), Method.AEFLOW.file)
    others = {method.file for method in Method if method.fitted or method == Method.GRADIENT}
    assert found & others == {Method.AEFLOW.file}
