"""Checksums that nobody publishes, and datasets that have to be asked for."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import AccessError, ConfigError, DataError
from aeflow.core.job import script
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import DatasetCard, SourceFile
from tests.unit.data.fetching import QUICK, card_of, left, sha256

RECORD = Path("config/checksums/toy.json")


def fetch(card: DatasetCard, destination: Path, mirror: Path | None, **options: Any) -> None:
    where = None if mirror is None else str(mirror)
    manifest = destination.parent.parent / "manifest.json"
    fetch_dataset(card, destination, manifest, where, patience=QUICK, **options)


def test_a_missing_checksum_is_recorded_and_required(
    source: Path,
    destination: Path,
    write_zip: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    card = card_of(SourceFile(name="toy.zip"))
    fetch(card, destination, source.parent)
    facts = {"sha256": sha256(source), "size_bytes": source.stat().st_size}
    assert json.loads(RECORD.read_text()) == {"toy.zip": facts}
    assert "required from now on" in caplog.messages[-1]
    assert str(RECORD) in caplog.messages[-1]

    destination.unlink()  # neither a deleted archive nor another run forgets it
    caplog.clear()
    fetch(card, destination, source.parent)
    [message] = caplog.messages
    assert "that of the first download is required" in message
    destination.unlink()
    write_zip(source, {"toy/other.png": b"x"})
    with pytest.raises(DataError, match=r"bytes instead of .*first download: delete config/check"):
        fetch(card, destination, source.parent)
    assert not destination.exists()

    RECORD.unlink()
    fetch(card, destination, source.parent)
    assert destination.read_bytes() == source.read_bytes()


def test_only_what_is_unknown_is_recorded(
    tmp_path: Path, source: Path, destination: Path, write_zip: Callable[..., Path]
) -> None:
    write_zip(source.parent / "labels.zip", {"labels.csv": b"1"})
    known = SourceFile(name="toy.zip", sha256=sha256(source))
    fetch(card_of(known, SourceFile(name="labels.zip")), destination, source.parent)
    assert list(json.loads(RECORD.read_text())) == ["labels.zip"]


def test_nothing_is_recorded_of_a_replaced_source_or_a_failure(
    source: Path, destination: Path
) -> None:
    card = card_of(SourceFile(name="toy.zip"))
    fetch(card, destination, None, source=str(source))
    source.write_bytes(b"\x1f\x8b and then nothing")
    with pytest.raises(DataError, match="no readable tar"):
        fetch(card, destination, source.parent)
    assert not RECORD.exists()


REQUEST = card_of(
    SourceFile(name="asked.zip", size_bytes=10_354, md5="0" * 32),
    access="request",
    recipe=["Ask at https://example.org for access.", "Download the file called asked.zip."],
)


def test_a_dataset_that_has_to_be_asked_for_says_how(source: Path, destination: Path) -> None:
    with pytest.raises(AccessError) as caught:
        fetch(REQUEST, destination, source.parent)
    assert str(caught.value).split("\n") == [
        "Toy cannot be downloaded without an account or a request "
        f"({source.parent}/asked.zip: there is no such file or folder). The rest of the study "
        "goes on.",
        "  1. Ask at https://example.org for access.",
        "  2. Download the file called asked.zip.",
        "  3. Put into one folder, under this name: asked.zip (10354 bytes, md5 "
        "00000000000000000000000000000000).",
        "  4. Run the same command again with AEFLOW_MIRROR=<that folder>, or give the dataset a "
        "`source` in your configuration: the file, the folder, or the folder it unpacks to.",
    ]
    assert left(destination) == []


def test_the_recipe_keeps_its_lines_on_stderr(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fetch_data.py"])
    monkeypatch.setattr(logging, "raiseExceptions", True)  # as it was, afterwards
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(SystemExit) as caught:
        script(lambda _: fetch(REQUEST, destination, None))
    first, *steps = str(caught.value.code).split("\n")
    assert first.startswith("fetch_data.py: Toy cannot be downloaded without an account")
    assert "(AEFLOW_MIRROR is not set)" in first
    assert [step[:4] for step in steps] == ["  1.", "  2.", "  3.", "  4."]


def test_what_was_asked_for_is_used(source: Path, destination: Path) -> None:
    card = REQUEST.model_copy(
        update={"files": [SourceFile(name="toy.zip", sha256=sha256(source))]}
    )
    fetch(card, destination, source.parent)
    assert destination.read_bytes() == source.read_bytes()
    fetch(REQUEST, destination, None, source=str(source))
    assert destination.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"access": "request"}, "access: request and a recipe belong together"),
        ({"recipe": ["Ask."]}, "access: request and a recipe belong together"),
        ({"generator": "demo_textures"}, "either files or a generator"),
        ({"files": [{"name": "a.zip"}, {"name": "a.tar.gz"}]}, "two files have the same name"),
    ],
)
def test_cards_that_make_no_sense(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        card_of(SourceFile(name="toy.zip"), **facts)


def test_a_card_without_files_needs_a_source(source: Path, destination: Path) -> None:
    card = card_of()
    with pytest.raises(ConfigError, match="toy names no files: give the dataset a `source`"):
        fetch(card, destination, source.parent)
    fetch(card, destination, None, source=str(source))
    assert destination.read_bytes() == source.read_bytes()
