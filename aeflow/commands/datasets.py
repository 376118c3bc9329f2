"""Which datasets there are, and whether one is what its card says (`aeflow datasets`)."""

import json
import re
import tempfile
import textwrap
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.job import cores
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import NO_NAME, validate
from aeflow.core.text import megabytes, printable
from aeflow.core.types import Split
from aeflow.data.archives import archive_kind, open_archive
from aeflow.data.fetch import (
    check_file,
    fetch_dataset,
    is_pinned,
    known_files,
    replaced_files,
)
from aeflow.data.local_sources import NOWHERE
from aeflow.data.prepare import Level, Tell, check_images
from aeflow.data.records import NoImagesError, Record, count_records
from aeflow.data.workers import Job, archive_workers, create_rows, decode_images
from aeflow.study.asked import PrepareAsked
from aeflow.study.cards import DATASET_CARDS, DatasetCard, SourceFile, load_dataset_card
from aeflow.study.cells import PATHS
from aeflow.study.entries import DatasetEntry
from aeflow.study.settings import DataSettings
from aeflow.study.study import RESERVED

KINDS = ("normal", "anomalous")


def list_datasets() -> None:
    """Print every card: size, licence, citation, and what of it is here."""
    for path in sorted(DATASET_CARDS.glob("*.yaml")):
        card = load_dataset_card(path.stem)
        print(f"{card.name}: {card.title}")
        facts = {
            "size": _size(card),
            "licence": card.licence,
            "citation": card.citation,
            "present": _present(card),
        }
        for key, text in facts.items():
            print(textwrap.fill(text, 99, initial_indent=f"  {key:9}", subsequent_indent=" " * 11))


def check_dataset(
    name: str, edition: str | None, source: str | None, categories: list[str]
) -> int:
    """Print what is right, notable and wrong with a dataset; 1 if anything is wrong."""
    card = load_dataset_card(name, edition=edition)
    entry = validate(DatasetEntry, {"name": card.name, "source": source}, "--source")
    levels: list[Level] = []

    def tell(level: Level, text: str) -> None:
        levels.append(level)
        print(f"{level:5}  {printable(text)}", flush=True)

    card.check_categories(categories or None)
    if entry.source is not None:
        found = check_own(card, entry.source, entry.place, categories, tell)
    elif card.has_source:
        found = []
        _check_fetched(card, edition, categories, tell)
    else:
        raise ConfigError(f"The card {card.name} is for your own images: say where, by --source.")
    errors = levels.count("error")
    if source and found and not errors:
        print(f"To use it, in your overlay:\n\n{_overlay(card, edition, source, found)}")
    verdict = f"failed, errors: {errors}" if errors else "passed"
    print(f"{card.name}: {verdict}, notes: {levels.count('note')}")
    return 1 if errors else 0


def name_of(source: str) -> str:
    """Return the name that a source of one's own gets."""
    own = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(source).absolute().stem)[:64].strip("_-")
    wrong = not own or NO_NAME.fullmatch(own) or own.casefold() in RESERVED
    return "mine" if wrong else own


def entry_of(card: DatasetCard, name: str, source: str, categories: list[str]) -> dict[str, Any]:
    """Return what `datasets` says of a source of one's own."""
    entry: dict[str, Any] = {"name": card.name if card.has_source else name}
    entry |= {} if entry["name"] == card.name else {"card": card.name}
    more = {} if categories == card.categories else {"categories": categories}
    return entry | {"source": source} | more


def dump(content: dict[str, Any]) -> str:
    """Return YAML, in the order of the keys."""
    how: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 999}
    return printable(yaml.safe_dump(content, allow_unicode=True, **how))


def _overlay(card: DatasetCard, edition: str | None, source: str, categories: list[str]) -> str:
    """Return the lines of a configuration that use a source."""
    entry = entry_of(card, name_of(source), source, categories)
    return dump({"datasets": [entry | ({"edition": edition} if edition else {})]})


def _check_fetched(
    card: DatasetCard, edition: str | None, categories: list[str], tell: Tell
) -> None:
    """Compare what was fetched with its receipt and with the card, and check its images."""
    name = DatasetEntry(name=card.name, edition=edition).archive
    archive = _archive(name)
    if not archive.is_file():
        entry = json.dumps([{"name": card.name} | ({"edition": edition} if edition else {})])
        raise DataError(
            f"{archive} is missing: fetch it with `snakemake --cores 1 {archive} --config "
            f"'datasets={entry}'`, or give --source."
        )
    receipt = read_receipt(Path(PATHS["fetched"].format(archive=name)))
    placed, was = sha256_file(archive), receipt.sha256(archive)
    if placed != was:
        tell("error", f"{archive} was changed: sha256 {placed}, when fetched {was}")
    else:
        tell("ok", f"{archive} is what was fetched, sha256 {placed}")
        wanted = {file.name: file for file in known_files(card)}
        for found in receipt.facts.get("files", []):
            _check_checksum(found["name"], found["sha256"], wanted.get(found["name"]), tell)
    for category, why in _check_categories(
        card, archive, categories or card.categories, tell
    ).items():
        tell("error", f"{category}: {why}")


def _check_checksum(name: str, sha256: str, file: SourceFile | None, tell: Tell) -> None:
    if file is None:
        tell("note", f"{name} is not the card's: a source of your own")
    elif not sha256.startswith(file.sha256 or ""):
        tell("error", f"{name} has sha256 {sha256}, not {file.sha256}")
    elif is_pinned(file):
        tell("ok", f"{name} has the checksum it should have")
    else:
        tell("note", f"{name}: no checksum is known")


def check_own(
    card: DatasetCard, source: str, path: Path | None, categories: list[str], tell: Tell
) -> list[str]:
    """Tell whether a source is the card's file, which it need not be, and check its images.

    Args:
        path: where it is on this machine; None: on a server.

    Returns:
        The categories that it has.
    """
    try:
        if path is not None and not path.exists():
            raise ConfigError(f"--source: {source} {NOWHERE}")
        replaced_files(card, source, None)  # which says what can be no source
        here = path if card.conversion is None else None
        as_it_is = here is not None and (here.is_dir() or archive_kind(here) == "zip")
    except OSError as error:
        raise ConfigError(f"--source: {source} cannot be read: {error.strerror}.") from error
    except DataError as error:
        raise DataError(f"--source: {source}: {str(error).rstrip('.')}.") from error
    if path is None or not path.is_file() or len(card.files) != 1:
        tell("note", f"{source} is a source of your own: no checksum is compared")
    elif not is_pinned(card.files[0]):
        tell("note", f"{path}: no checksum is known, sha256 {sha256_file(path)}")
    else:
        name = card.files[0].name
        try:
            check_file(card.files[0], path)
            tell("ok", f"{path} is the card's {name}")
        except DataError:
            tell("note", f"{path} is not the card's {name}: its checksum does not apply to a copy")
    if path and as_it_is:
        return _check_parts(card, path, categories, tell)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive.zip")
        fetch_dataset(card, archive, None, source)
        return _check_parts(card, archive, categories, tell)


def _check_parts(card: DatasetCard, archive: Path, categories: list[str], tell: Tell) -> list[str]:
    """Check the categories that are asked for, or else those of the card that are there.

    Returns those that are there.
    """
    absent = _check_categories(card, archive, categories or card.categories, tell)
    found = [name for name in categories or card.categories if name not in absent]
    if categories or not found:
        for category, why in list(absent.items())[: len(categories) or 1]:
            tell("error", f"{category}: {why}")
    elif absent:
        tell("note", f"categories of the card that are not here: {', '.join(absent)}")
    return found


def _check_categories(
    card: DatasetCard, archive: Path, categories: list[str], tell: Tell
) -> dict[str, str]:
    """Check categories; return those of which no image is there, and what is said of that."""
    with open_archive(archive):
        pass  # once, before every process and category says the same
    absent: dict[str, str] = {}
    with archive_workers(archive, cores()) as pool:
        for category in categories:
            tell_of = partial(_tell_of, category, tell)
            named = {"dataset": card.name, "category": category}
            asked = PrepareAsked(**named, card=card, data=DataSettings())
            try:
                records = check_images(archive, asked, pool, tell_of, measured=True).records
            except NoImagesError as error:
                absent[category] = str(error).removeprefix(f"{asked.name}: ")
                continue
            except DataError as error:
                tell_of("error", str(error).removeprefix(f"{asked.name}: "))
                continue
            print(_table(records))
            masked = [record for record in records if record.mask]
            jobs = [Job(record.source, row, record.mask) for row, record in enumerate(masked)]
            with tempfile.TemporaryDirectory() as folder:
                rows, small = Path(folder, "masks.npy"), DataSettings(image_size=32)
                create_rows(rows, (len(jobs), small.image_size, small.image_size))
                decoded = decode_images(pool, jobs, small, rows) if jobs else []
            for job, why in zip(jobs, decoded, strict=True):
                if isinstance(why, str):
                    tell_of("error", f"the mask {job.mask} cannot be used: {why}")
    return absent


def _table(records: Iterable[Record]) -> str:
    """Return the numbers of images in use by split and label."""
    counts = count_records(records)
    rows = [(split, *(counts[f"{split}_{kind}"] for kind in KINDS)) for split in Split]
    lines = [("", *KINDS), *rows]
    return "\n".join(f"       {name:12}{a!s:>8}{b!s:>11}" for name, a, b in lines)


def _tell_of(category: str, tell: Tell, level: Level, text: str) -> None:
    tell(level, f"{category}: {text}")


def _size(card: DatasetCard) -> str:
    if not card.files:
        return "your own images"
    sizes = [file.size_bytes or 0 for file in card.files]
    known = megabytes(sum(sizes)) if all(sizes) else "not known before the download"
    files = "" if len(sizes) == 1 else f", {len(sizes)} files"
    asked = "; has to be asked for" if card.access == "request" else ""
    return f"{known}{files}{asked}"


def _present(card: DatasetCard) -> str:
    names = [DatasetEntry(name=card.name, edition=e).archive for e in (None, *card.editions)]
    fetched = [
        f"{path} ({megabytes(path.stat().st_size)})"
        for path in map(_archive, names)
        if path.is_file()
    ]
    receipts = {
        name: Path(PATHS["prepared"].format(dataset=card.name, category=name))
        for name in card.categories
    }
    prepared = [name for name, path in receipts.items() if path.is_file()]
    told = [f"archive {', '.join(fetched)}"] if fetched else []
    told += [f"prepared {', '.join(prepared)}"] if prepared else []
    return "; ".join(told) or "nothing"


def _archive(name: str) -> Path:
    return Path(PATHS["archive"].format(archive=name))
