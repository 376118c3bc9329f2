"""The command `aeflow`: check datasets and results, and use what was trained on new images."""

import argparse
import io
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
from typing import Any

import yaml

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.files import sha256_file, write_text
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import NO_NAME, validate
from aeflow.core.text import printable
from aeflow.core.types import Split
from aeflow.data.archives import archive_kind, open_archive
from aeflow.data.fetch import (
    check_file,
    fetch_dataset,
    is_pinned,
    known_files,
    replaced_files,
)
from aeflow.data.local_sources import NOWHERE, see_sources
from aeflow.data.not_used import fitting_card
from aeflow.data.prepare import Level, Tell, check_images
from aeflow.data.records import NoImagesError, Record, count_records
from aeflow.data.workers import Job, archive_workers, create_rows, decode_images
from aeflow.doctor import Doctor
from aeflow.judging.thresholds import Threshold
from aeflow.study.asked import PrepareAsked
from aeflow.study.cards import DATASET_CARDS, DatasetCard, SourceFile, load_dataset_card
from aeflow.study.cells import PATHS, find_cell
from aeflow.study.defaults import load_study
from aeflow.study.entries import DatasetEntry
from aeflow.study.settings import DataSettings, ThresholdSettings
from aeflow.study.study import read_study

KINDS = ("normal", "anomalous")
RECOMMENDED = Path("config/studies/recommended.yaml")


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
    init = commands.add_parser("init", help="look at your own images and write a study of them")
    init.add_argument("source", help="a folder or an archive")
    init.add_argument("--out", type=Path, help="NAME.yaml here, unless told")
    init.set_defaults(run=init_study)
    doctor = commands.add_parser(
        "doctor", help="verify that configuration, payload and results belong together"
    )
    doctor.add_argument("--configfile", type=Path, nargs="+", default=[], help="as for snakemake")
    doctor.set_defaults(run=examine_study)
    pack = commands.add_parser("pack", help="make one file of what was trained, a detector")
    pack.add_argument("study", help="its name, or its folder in results/")
    pack.add_argument("dataset")
    pack.add_argument("variant", help="of a fusion its members are packed together")
    pack.add_argument("--category", help="where the dataset has several")
    pack.add_argument("--seed", type=int, help="the study's first, unless told")
    pack.add_argument(
        "--half", action="store_true", help="weights in half precision, half the size"
    )
    pack.add_argument("--out", type=Path, help="results/STUDY/detectors/..., unless told")
    pack.set_defaults(run=pack_detector)
    predict = commands.add_parser("predict", help="scores, verdicts and maps of new images")
    predict.add_argument("detector", type=Path, help="what `aeflow pack` wrote")
    predict.add_argument("images", nargs="+", help="images, folders, patterns, a zip, a csv list")
    predict.add_argument("--out", type=Path, required=True, help="folder for the results")
    predict.add_argument("--maps", choices=("none", "npy", "tiff"), default="none")
    predict.add_argument("--no-overlays", action="store_true", help="no picture of each image")
    at = predict.add_mutually_exclusive_group()
    at.add_argument("--threshold", type=float, help="a score from which an image is anomalous")
    at.add_argument("--sensitivity", type=float, help="of the validation anomalies, 0 to 1")
    at.add_argument("--specificity", type=float, help="of the validation normals, 0 to 1")
    at.add_argument("--fpr", type=float, help="false positive rate: 1 - specificity")
    predict.set_defaults(run=predict_images)
    options = parser.parse_args(arguments)
    logging.getLogger("aeflow").addHandler(logging.NullHandler())  # findings are printed instead
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every letter of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except AeflowError as error:
        print(f"aeflow: {printable(str(error))}", file=sys.stderr)
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
    entry = validate(DatasetEntry, {"name": card.name, "source": options.source}, "--source")
    levels: list[Level] = []

    def tell(level: Level, text: str) -> None:
        levels.append(level)
        print(f"{level:5}  {printable(text)}", flush=True)

    card.check_categories(options.category)
    wanted: list[str] = options.category or []
    if entry.source is not None:
        found = _check_own(card, entry.source, entry.place, wanted, tell)
    elif card.has_source:
        found = []
        _check_fetched(card, options.edition, wanted, tell)
    else:
        raise ConfigError(f"The card {card.name} is for your own images: say where, by --source.")
    errors = levels.count("error")
    if found and not errors:
        print(f"To use it, in your overlay:\n\n{_overlay(card, options, found)}")
    verdict = f"failed, errors: {errors}" if errors else "passed"
    print(f"{card.name}: {verdict}, notes: {levels.count('note')}")
    return 1 if errors else 0


def init_study(options: argparse.Namespace) -> int:
    """Find the layout of a source, check its images, and write a study of them.

    It is that of config/studies/recommended.yaml. 1 if anything is wrong with the images.
    """
    place = Path(options.source)
    if not place.exists():
        raise ConfigError(f"{place} {NOWHERE}")
    card = _fitting(place)
    print(f"This looks like {card.name}: {card.title}\n")
    said: list[tuple[Level, str]] = []

    def tell(level: Level, text: str) -> None:
        said.append((level, text))
        print(f"{level:5}  {printable(text)}", flush=True)

    found = _check_own(card, options.source, place, [], tell)
    if wrong := sum(level == "error" for level, _ in said):
        print(f"Nothing was written. Errors: {wrong}.")
        return 1
    name = _name_of(options.source)
    target = options.out or Path(f"{name}.yaml")
    if target.exists():
        raise ConfigError(f"{target} is there already: remove it, or give another --out.")
    deep = any("data.intensity" in text for _, text in said)
    recipe = RECOMMENDED.read_text(encoding="utf-8")
    recipe = recipe[recipe.index("\nencoder:") :]
    lines = [
        "# yaml-language-server: $schema=config/config.schema.json",
        f"# Written by `aeflow init`. To run it: snakemake --cores all --configfile {target}",
        "# Every key and its default: config/config.default.yaml",
        f"study: {name}",
        "",
        _dump({"datasets": [_entry(card, name, options.source, found)]}),
    ]
    if deep:
        lines += ["# More than 8 bits, of which little is used.", "data: {intensity: percentiles}"]
    note = "\n# The recipe of config/studies/recommended.yaml: Gaussians of pretrained features.\n"
    write_text(target, "\n".join(lines) + note + recipe.lstrip("\n"))
    print(
        f"\n{target} is written. Now:\n"
        f"  snakemake --cores all --configfile {target}    # to results/{name}/report.html\n"
        f"  aeflow pack {name} {name} recommended{' --category C' * (len(found) > 1)}"
        "    # then one file, for aeflow predict"
    )
    return 0


def _fitting(place: Path) -> DatasetCard:
    """Return the card for own images that finds most of a source's; ConfigError: none does."""
    with open_archive(place) as archive:
        names = [m.filename for m in archive.infolist() if not m.is_dir()]
    own = [load_dataset_card(path.stem) for path in sorted(DATASET_CARDS.glob("*.yaml"))]
    own = [card for card in own if not card.has_source]
    name = fitting_card(names)
    if name is None:
        told = "; ".join(f"{card.name}: {card.title}" for card in own)
        raise ConfigError(
            f"{place} has none of the layouts that are known ({told}), but files such as "
            f"{', '.join(names[:3])}. docs/datasets.md shows each."
        )
    return next(card for card in own if card.name == name)


def _name_of(source: str) -> str:
    own = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(source).absolute().stem)[:64].strip("_-")
    return own if own and not NO_NAME.fullmatch(own) else "mine"


def _entry(card: DatasetCard, name: str, source: str, categories: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": card.name if card.has_source else name}
    entry |= {} if entry["name"] == card.name else {"card": card.name}
    more = {} if categories == card.categories else {"categories": categories}
    return entry | {"source": source} | more


def _dump(content: dict[str, Any]) -> str:
    how: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 999}
    return printable(yaml.safe_dump(content, allow_unicode=True, **how))


def _overlay(card: DatasetCard, options: argparse.Namespace, categories: list[str]) -> str:
    """Return the lines of a configuration that use a source."""
    entry = _entry(card, _name_of(options.source), options.source, categories)
    edition = {"edition": options.edition} if options.edition else {}
    return _dump({"datasets": [entry | edition]})


def examine_study(options: argparse.Namespace) -> int:
    """Print a line for each thing that is wrong with a study; 1 if anything is."""
    doctor = Doctor(see_sources(load_study(options.configfile)))
    for finding in doctor.examine():
        print(finding)
    found = len(doctor.findings)
    verdict = f"failed, findings: {found}" if found else "passed"
    print(f"{doctor.study.study}: {verdict}, files examined: {len(doctor.examined)}")
    return 1 if found else 0


def pack_detector(options: argparse.Namespace) -> int:
    """Write a trained cell as one file, and say what it is."""
    from aeflow.detector.pack import pack  # torch

    logging.basicConfig(level=logging.WARNING, format="aeflow: %(message)s")
    place = Path(options.study)
    study = read_study(
        place / "study.json" if place.is_dir() else Path(PATHS["study"].format(study=place.name))
    )
    cell = find_cell(study, options.dataset, options.variant, options.category, options.seed)
    name = f"{cell.dataset}-{cell.category}-{cell.variant}-seed{cell.seed}.safetensors"
    target = options.out or Path("results", study.study, "detectors", name)
    detector = pack(study, cell, target, options.half)
    gt_label, _ = detector.validation
    normals = int((gt_label == 0).sum())
    print(
        f"{target}: {target.stat().st_size / 1e6:.1f} MB, {detector.told()}, validated on "
        f"{normals} normal and {len(gt_label) - normals} anomalous images"
    )
    return 0


def predict_images(options: argparse.Namespace) -> int:
    """Score new images; 0: all of them, 3: some could not be used."""
    from aeflow.detector.detector import Detector  # torch
    from aeflow.detector.predictions import NAME, PAGE, predict

    logging.basicConfig(level=logging.INFO, format="aeflow: %(message)s")
    detector = Detector.load(options.detector)
    specificity = options.specificity if options.fpr is None else 1 - options.fpr
    if options.threshold is not None:
        detector.threshold = Threshold(options.threshold, "given")
    elif (asked := options.sensitivity) is not None:
        detector.operate(_rule("--sensitivity", "sensitivity", sensitivity=asked))
    elif specificity is not None:
        name = "--specificity" if options.fpr is None else "--fpr"
        detector.operate(_rule(name, "normal_quantile", quantile=specificity))
    if detector.threshold.value is None and detector.threshold.reason:
        raise DataError(detector.threshold.reason)
    print(f"{options.detector}: {detector.told()}", file=sys.stderr)
    if detector.threshold.warning:
        print(f"aeflow: {detector.threshold.warning}", file=sys.stderr)
    found = predict(
        *(detector, options.detector, options.images, options.out, options.maps),
        pictures=not options.no_overlays,
    )
    print(
        f"{found.images} images: {found.anomalous} anomalous, "
        f"{found.images - found.anomalous - found.unreadable} normal, "
        f"{found.unreadable} could not be used; {options.out / NAME}, {options.out / PAGE}"
    )
    return 3 if found.unreadable else 0


def _rule(option: str, rule: str, **values: float) -> ThresholdSettings:
    return validate(ThresholdSettings, {"rule": rule, **values}, option)


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


def _check_own(
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
    with archive_workers(archive, os.cpu_count() or 1) as pool:
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
