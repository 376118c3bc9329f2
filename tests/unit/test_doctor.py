"""What `aeflow doctor` compares: numbers but for rounding, folders as DVC does."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import DataError
from aeflow.doctor import differences, dvc_md5, locked_versions, payload_files, read_dvc_file


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.0 + 1e-14]}}, []),
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.1]}}, ["a.b[1]: 2.0, not 2.1"]),
        ({"a": 1, "more": 2}, {"a": 1}, ["more: 2, not None"]),
        ({}, {"a": None}, []),
        ({"a": 0.5}, {"a": None}, ["a: 0.5, not None"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1], not [1, 2]"]),
        ([{"x": 1.0}], [{"x": None}], ["[0].x: 1.0, not None"]),
        ({"a": True}, {"a": False}, ["a: True, not False"]),
    ],
)
def test_each_value_that_differs_is_named(found: Any, wanted: Any, expected: list[str]) -> None:
    assert list(differences(found, wanted)) == expected


def test_a_payload_has_the_md5_that_dvc_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = Path("models/d"), Path("archive.zip")
    for name in ("b/é/seed0.x", "b/seed10.x", "a.x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".a.part.x").touch()  # of an interrupted job
    file.write_bytes(b"zip")
    Path(".dvcignore").write_text(".*.part*\n")
    for command in (["init", "--no-scm"], ["add", folder.as_posix(), file.as_posix()]):
        subprocess.run([sys.executable, "-m", "dvc", *command, "--quiet"], check=True)
    for payload in (folder, file):
        (out,) = read_dvc_file(Path(f"{payload}.dvc"))
        assert (out.path, out.md5) == (payload.name, dvc_md5(payload))
        assert out.nfiles == len(payload_files(payload))


@pytest.mark.parametrize("content", ["outs: [", "outs: []", "outs: [{path: x}]", "- 1"])
def test_a_damaged_dvc_file_is_a_sentence(tmp_path: Path, content: str) -> None:
    place = tmp_path / "x.dvc"
    place.write_text(content)
    with pytest.raises(
        DataError, match=r"(?s)x\.dvc is no valid \.dvc file .*restore it from git"
    ):
        read_dvc_file(place)


def test_versions_that_the_locks_pin() -> None:
    """The environment of the tests is that of the locks."""
    locked = locked_versions()
    assert "aeflow" in locked
    for name in ("numpy", "torch", "snakemake"):
        assert version(name).partition("+")[0] == locked[name]
