"""Receipts: what they say, whether they were edited, and what is wrong with a damaged one."""

import json
import platform
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import DataError
from aeflow.core.receipts import read_receipt, versions, write_receipt

MADE, READ = Path("data/made.npy"), Path("data/read.csv")


@pytest.fixture
def receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A receipt of a file with the content b"made"."""
    monkeypatch.chdir(tmp_path)
    MADE.parent.mkdir()
    MADE.write_bytes(b"made")
    path = Path("receipt.json")
    write_receipt(
        path,
        made={MADE: sha256(b"made").hexdigest()},
        origin={READ: sha256(b"read").hexdigest()},
        settings={"steps": 2, "rate": 1e-3},
        facts={"seconds": 0.1 + 0.2, "best_epoch": None, "counts": {"é": [1, 2.0]}},
        warnings=[*"zyxwvut", "y"],  # a set would not keep their order
    )
    return path


def test_what_is_written_is_read(receipt: Path) -> None:
    found = read_receipt(receipt)
    assert found.made == {"data/made.npy": sha256(b"made").hexdigest()}
    assert found.origin == {"data/read.csv": sha256(b"read").hexdigest()}
    assert found.settings == {"steps": 2, "rate": 1e-3}
    assert found.facts["seconds"] == 0.1 + 0.2
    assert found.warnings == [*"zyxwvut"]
    assert found.sealed
    assert found.sha256(MADE) == sha256(b"made").hexdigest()
    with pytest.raises(DataError, match=r"No receipt names data/read\.csv"):
        found.sha256(READ)
    assert set(json.loads(receipt.read_text())) == {
        *("made", "from", "settings", "versions", "warnings", "facts", "seal")
    }


def test_the_same_job_writes_the_same_bytes(receipt: Path) -> None:
    content = json.loads(receipt.read_text())
    again = receipt.with_name("again.json")
    write_receipt(
        again,
        made={Path(name): digest for name, digest in content["made"].items()},
        origin={Path(name): digest for name, digest in content["from"].items()},
        settings=dict(reversed(content["settings"].items())),
        facts=dict(reversed(content["facts"].items())),
        warnings=content["warnings"],
    )
    assert again.read_bytes() == receipt.read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("made", {"data/made.npy": "0" * 64}),
        ("from", {}),
        ("settings", {"steps": 3, "rate": 1e-3}),
        ("versions", {"python": "2.7"}),
        ("warnings", []),
        ("facts", {}),
        ("seal", "0" * 64),
    ],
)
def test_an_edit_breaks_the_seal_and_another_form_does_not(
    receipt: Path, key: str, value: Any
) -> None:
    content = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(content, indent=None))
    assert read_receipt(receipt).sealed
    receipt.write_text(json.dumps(content | {key: value}))
    assert not read_receipt(receipt).sealed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is no receipt"),
        ("{}", r"is no receipt \(made: Field required; from: .*restore it from git, or delete"),
        ("{", "is no valid JSON"),
        ('{"made": {"a": 1}}', r"is no receipt \(made\.a: Input should be a valid string; from:"),
    ],
)
def test_a_damaged_receipt_is_a_sentence(receipt: Path, text: str, words: str) -> None:
    receipt.write_text(text)
    with pytest.raises(DataError, match=rf"^receipt\.json {words}"):
        read_receipt(receipt)


def test_versions_are_of_what_the_job_had_imported() -> None:
    assert versions()["python"] == platform.python_version()
    code = "import {}aeflow.core.receipts as r; print(*r.versions())"
    names = [
        subprocess.check_output([sys.executable, "-c", code.format(more)], text=True).split()
        for more in ("", "PIL, numpy, ")
    ]
    assert names == [["python", "aeflow"], ["python", "aeflow", "numpy", "pillow"]]
