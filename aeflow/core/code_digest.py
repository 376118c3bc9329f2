"""What a rule's numbers depend on besides data and settings: its code."""

import ast
import hashlib
import re
from functools import lru_cache
from pathlib import Path

# These shape messages, files and defaults, but no number: the settings' values reach a rule
# through its params, a card's through its own.
SHAPES_NO_NUMBER = ("aeflow.core", "aeflow.study")
# What a download brings is checked by its checksum; the contents only name what is made.
NOR_DO = ("aeflow.data.download", "aeflow.report.contents")
STRING_OR_COMMENT = re.compile(
    r'''("""|\'{3})(?:\\.|.)*?\1|(["'])(?:\\.|.)*?\2|#[^\n]*''', re.DOTALL
)


def code_digest(*files: Path) -> str:
    """Return a digest of a script and of every module of the package that it imports.

    `files` are the script and those modules that it finds by name, as the module of a method.

    Comments, docstrings and blank lines do not count, so that an edited sentence retrains
    nothing. The digest goes into a rule's params: Snakemake sees neither a script that a shell
    command runs nor the modules behind it.
    """
    digest = hashlib.sha256()
    for path in sorted(imported_files(*files)):
        digest.update(f"{path.as_posix()}\n{significant_source(path)}\n".encode())
    return digest.hexdigest()[:16]


def imported_files(*files: Path) -> set[Path]:
    """Return files and the package's files behind their imports that shape numbers.

    Paths are relative to the repository's root, where Snakemake runs.
    """
    found: set[Path] = set()
    waiting = [*files]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _read(path)[1] for file in _files_of(name)]
    return found


def significant_source(path: Path) -> str:
    """Return a file's source without comments, docstrings and blank lines."""
    return _read(path)[0]


@lru_cache
def _read(path: Path) -> tuple[str, frozenset[str]]:
    """Return a file's significant source, and the modules of the package that it imports."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    # Not `tokenize`, which takes as long as all else that is planned of a small study.
    for found in STRING_OR_COMMENT.finditer(source):
        if found[0].startswith("#"):
            before = source[: found.start()]
            lines[before.count("\n")] = before[before.rfind("\n") + 1 :]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            for row in range(text.lineno, (text.end_lineno or text.lineno) + 1):
                lines[row - 1] = ""
    kept = "\n".join(line.rstrip() for line in lines if line.strip())
    return kept, frozenset(name for name in names if name.split(".")[0] == "aeflow")


def _files_of(module: str) -> list[Path]:
    if module in NOR_DO or module == "aeflow" or module.startswith(SHAPES_NO_NUMBER):
        return []
    path = Path(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return [candidate for candidate in candidates if candidate.is_file()]
