"""The command `aeflow`: whether datasets are what their cards say, and results what made them."""

import argparse
import json
import logging
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from aeflow.core.errors import AeflowError, DataError
from aeflow.data.checking import Finding, check_copy, check_fetched, check_images
from aeflow.data.fetch import fetch_dataset
from aeflow.doctor import Doctor
from aeflow.study.cards import DATASET_CARDS, DatasetCard, load_dataset_card
from aeflow.study.defaults import load_study

RAW, MANIFESTS = Path("data/raw"), Path("data/manifests")


def main(arguments: list[str] | None = None) -> int:
    """Run the command in the folder of a study; return its exit status.

    Args:
        arguments: Instead of the command line's.
    """
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
    levels = []
    for finding in _findings(card, options.edition, options.source):
        levels.append(finding.level)
        print(f"{finding.level:5}  {finding.text}", flush=True)
    errors = levels.count("error")
    verdict = f"failed, errors: {errors}" if errors else "passed"
    print(f"{card.name}: {verdict}, notes: {levels.count('note')}")
    return 1 if errors else 0


def examine_study(options: argparse.Namespace) -> int:
    """Print a line for each thing that is wrong with a study; 1 if anything is."""
    doctor = Doctor(load_study(options.configfile))
    for finding in doctor.examine():
        print(finding)
    found = len(doctor.findings)
    verdict = f"failed, findings: {found}" if found else "passed"
    absent = f", metrics without their scores: {doctor.without_scores}"
    print(
        f"{doctor.study.study}: {verdict}, files examined: {doctor.examined}"
        f"{absent if doctor.without_scores else ''}"
    )
    return 1 if found else 0


def _findings(card: DatasetCard, edition: str | None, source: str | None) -> Iterator[Finding]:
    if source is None:
        name = card.name if edition is None else f"{card.name}-{edition}"
        archive = RAW / f"{name}.zip"
        if not archive.is_file():
            entry = json.dumps([{"name": card.name, **({"edition": edition} if edition else {})}])
            raise DataError(
                f"{archive} is missing: fetch it with `snakemake --config 'datasets={entry}' "
                f"{archive}`, or give --source."
            )
        yield from check_fetched(card, archive, MANIFESTS / "raw" / f"{name}.json")
        yield from check_images(card, archive)
        return
    path = Path(source).expanduser()
    if path.is_file() and len(card.files) == 1:
        yield from check_copy(card.files[0], path)
    else:
        yield Finding("note", f"{source} is a source of your own: no checksum is compared")
    if path.is_file() and path.suffix == ".zip" and card.conversion is None:
        yield from check_images(card, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive.zip")
        fetch_dataset(card, archive, Path(folder, "manifest.json"), None, source)
        yield from check_images(card, archive)


def _size(card: DatasetCard) -> str:
    if card.generator is not None:
        return "generated here"
    if not card.files:
        return "your own images"
    sizes = [file.size_bytes or 0 for file in card.files]
    known = _megabytes(sum(sizes)) if all(sizes) else "not known before the download"
    files = "" if len(sizes) == 1 else f", {len(sizes)} files"
    asked = "; has to be asked for" if card.access == "request" else ""
    return f"{known}{files}{asked}"


def _present(card: DatasetCard) -> str:
    names = [card.name, *(f"{card.name}-{edition}" for edition in card.editions)]
    archives = [RAW / f"{name}.zip" for name in names]
    fetched = [
        f"{path} ({_megabytes(path.stat().st_size)})" for path in archives if path.is_file()
    ]
    prepared = {path.stem for path in (MANIFESTS / "prepared" / card.name).glob("*.json")}
    categories = [name for name in card.categories if name in prepared]
    told = [f"archive {', '.join(fetched)}"] if fetched else []
    told += [f"prepared {', '.join(categories)}"] if categories else []
    return "; ".join(told) or "nothing"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
