"""The command `aeflow`: whether datasets are what their cards say, and results what made them."""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml

from aeflow.core.errors import AeflowError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import validate
from aeflow.core.types import Split
from aeflow.data.archives import open_archive
from aeflow.data.fetch import fetch_dataset, known_files
from aeflow.data.local_sources import see_sources
from aeflow.data.prepare import Level, Tell, check_images
from aeflow.data.records import NoImagesError, Record, count_records, find_records
from aeflow.data.sources import check_file, is_pinned
from aeflow.data.workers import archive_workers, look_at_images
from aeflow.doctor import Doctor
from aeflow.study.cards import DATASET_CARDS, DatasetCard, SourceFile, load_dataset_card
from aeflow.study.cells import PATHS
from aeflow.study.defaults import load_study
from aeflow.study.entries import DatasetEntry
from aeflow.study.settings import DataSettings

KINDS = ("normal", "anomalous")


def main(arguments: list[str] | None = None) -> int:
    """Run the command in the folder of a study; return its exit status."""
    parser = argparse.ArgumentParser("aeflow", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    datasets = commands.add_parser("datasets", help="list the datasets, or check one")
    datasets.set_defaults(run=lambda _: list_datasets())
    check = datasets.add_subparsers(metavar="check").add_parser(
        "check", help="verify archive, counts, duplicates, patients in two splits"
    )
    check.add_argument("name", help="a card in config/datasets/")
    check.add_argument("--edition", help="one of the card's editions")
    check.add_argument("--source", help="an archive, folder or URL instead of what was fetched")
    check.add_argument("--category", nargs="+", help="only these of the card's categories")
    check.set_defaults(run=check_dataset)
    doctor = commands.add_parser(
        "doctor", help="verify that configuration, payload and results belong together"
    )
    doctor.add_argument("--configfile", type=Path, nargs="+", default=[], help="as for snakemake")
    doctor.set_defaults(run=examine_study)
    options = parser.parse_args(arguments)
    logging.getLogger("aeflow").addHandler(logging.NullHandler())  # findings are printed instead
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except AeflowError as error:
        print(f"aeflow: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def list_datasets() -> int:
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
    return 0


def check_dataset(options: argparse.Namespace) -> int:
    """Print what is right, notable and wrong with a dataset; 1 if anything is wrong."""
    card = load_dataset_card(options.name, edition=options.edition)
    if options.source is not None:
        validate(DatasetEntry, {"name": card.name, "source": options.source}, "--source")
    levels: list[Level] = []

    def tell(level: Level, text: str) -> None:
        levels.append(level)
        print(f"{level:5}  {text}", flush=True)

    card.check_categories(options.category)
    wanted: list[str] = options.category or []
    if options.source is None:
        _check_fetched(card, options.edition, wanted, tell)
        found = wanted
    else:
        found = _check_own(card, options.source, wanted, tell)
    errors = levels.count("error")
    if options.source is not None and found and not errors:
        print(f"To use it, in your overlay:\n\n{_overlay(card, options, found)}")
    verdict = f"failed, errors: {errors}" if errors else "passed"
    print(f"{card.name}: {verdict}, notes: {levels.count('note')}")
    return 1 if errors else 0


def _overlay(card: DatasetCard, options: argparse.Namespace, categories: list[str]) -> str:
    """Return the lines of a configuration that use a source."""
    source: str = options.source
    own = re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(source).expanduser().resolve().stem).strip("_.-")
    entry = {"name": card.name if card.has_source else own or "mine"}
    entry |= {} if entry["name"] == card.name else {"card": card.name}
    entry |= {"edition": options.edition} if options.edition else {}
    more = {} if categories == card.categories else {"categories": categories}
    listed = {"datasets": [entry | {"source": source} | more]}
    return yaml.safe_dump(listed, sort_keys=False, default_flow_style=None, width=999)


def examine_study(options: argparse.Namespace) -> int:
    """Print a line for each thing that is wrong with a study; 1 if anything is."""
    doctor = Doctor(see_sources(load_study(options.configfile)))
    for finding in doctor.examine():
        print(finding)
    found = len(doctor.findings)
    verdict = f"failed, findings: {found}" if found else "passed"
    print(f"{doctor.study.study}: {verdict}, files examined: {len(doctor.examined)}")
    return 1 if found else 0


def _check_fetched(
    card: DatasetCard, edition: str | None, categories: list[str], tell: Tell
) -> None:
    """Compare what was fetched with its receipt and with the card, and check its images."""
    name = card.name if edition is None else f"{card.name}-{edition}"
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
    _check_categories(card, archive, categories or card.categories, tell)


def _check_checksum(name: str, sha256: str, file: SourceFile | None, tell: Tell) -> None:
    if file is None:
        tell("note", f"{name} is not the card's: a source of your own")
    elif not sha256.startswith(file.sha256 or ""):
        tell("error", f"{name} has sha256 {sha256}, not {file.sha256}")
    elif is_pinned(file):
        tell("ok", f"{name} has the checksum it should have")
    else:
        tell("note", f"{name}: no checksum is known")


def _check_own(card: DatasetCard, source: str, categories: list[str], tell: Tell) -> list[str]:
    """Tell whether a source is the card's file, which it need not be, and check its images.

    Returns the categories that it has.
    """
    path = Path(source).expanduser()
    if not path.is_file() or len(card.files) != 1:
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
    as_it_is = path.is_dir() or (path.is_file() and path.suffix == ".zip")
    if as_it_is and card.conversion is None:
        return _check_parts(card, path, categories, tell)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive.zip")
        fetch_dataset(card, archive, None, source)
        return _check_parts(card, archive, categories, tell)


def _check_parts(card: DatasetCard, archive: Path, categories: list[str], tell: Tell) -> list[str]:
    """Check the categories that are asked for, or else those of the card that are there."""
    if categories:
        _check_categories(card, archive, categories, tell)
        return categories
    absent: dict[str, str] = {}
    with open_archive(archive) as opened:
        for category in card.categories:
            try:
                find_records(opened, card, category)
            except NoImagesError as error:
                absent[category] = str(error)
            except DataError:
                pass  # told below
    found = [name for name in card.categories if name not in absent]
    if not found:
        tell("error", absent[card.categories[0]])
        return []
    if absent:
        tell("note", f"categories of the card that are not here: {', '.join(absent)}")
    _check_categories(card, archive, found, tell)
    return found


def _check_categories(card: DatasetCard, archive: Path, categories: list[str], tell: Tell) -> None:
    open_archive(archive).close()
    with archive_workers(archive, os.cpu_count() or 1) as pool:
        for category in categories:
            tell_of, settings = partial(_tell_of, category, tell), DataSettings()
            try:
                given = (archive, card, category, settings, pool, tell_of)
                print(_table(check_images(*given, measured=True).records))
                with open_archive(archive) as opened:
                    masks = sorted(find_records(opened, card, category).masks)
            except DataError as error:
                tell_of("error", str(error).removeprefix(f"{card.name}/{category}: "))
                continue
            looks = look_at_images(pool, masks, settings, measured=True) if masks else []
            for mask, look in zip(masks, looks, strict=True):
                if isinstance(look.found, str):
                    tell_of("error", f"the mask {mask} cannot be used: {look.found}")


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
    known = _megabytes(sum(sizes)) if all(sizes) else "not known before the download"
    files = "" if len(sizes) == 1 else f", {len(sizes)} files"
    asked = "; has to be asked for" if card.access == "request" else ""
    return f"{known}{files}{asked}"


def _present(card: DatasetCard) -> str:
    names = [card.name, *(f"{card.name}-{edition}" for edition in card.editions)]
    fetched = [
        f"{path} ({_megabytes(path.stat().st_size)})"
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


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
