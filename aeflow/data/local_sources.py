"""Sources of one's own on this machine: whether they changed since they were read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json, sha256_file, write_json
from aeflow.core.receipts import Receipt, read_receipt
from aeflow.data.archives import (
    Folder,
    archive_kind,
    content_digest,
    open_archive,
    sha256_member,
    stamp,
)
from aeflow.data.records import Found, check_labels, find_records
from aeflow.study.cards import DatasetCard
from aeflow.study.cells import PATHS, RECEIPTS
from aeflow.study.entries import DatasetEntry, Seen
from aeflow.study.study import Study

NOWHERE = "does not exist: name a folder, an archive or a URL."
# Of what a source was known by and is known by now -> whether its bytes are the same.
ANSWERS = Path(".snakemake/copies.json")


def see_sources(study: Study) -> Study:
    """Return the study with what its own sources on this machine hold now.

    What a rule records of it plans a new run where an image, a mask or a table has changed, and
    nothing where only the place has. A source that is gone counts as it was when it was read.

    Raises:
        ConfigError: a source is neither here nor was ever read, or its card finds no images in it.
    """
    entries = [_see(study, entry) for entry in study.datasets]
    return study.model_copy(update={"datasets": entries})


def _see(study: Study, entry: DatasetEntry) -> DatasetEntry:
    place = entry.place
    if place is None:
        return entry
    where = f"datasets[{entry.name}].source: {entry.source}"
    known = _known(study, entry)
    try:
        if not place.exists():
            if known is None:
                raise ConfigError(f"{where} {NOWHERE}")
            return entry.model_copy(update={"seen": known})
        seen = _look(place, study.card(entry.name), study.categories(entry.name))
        if known is not None:
            seen = _unless_copied(entry, study.card(entry.name), known, seen)
    except DataError as error:
        raise ConfigError(f"{where}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}.") from error
    return entry.model_copy(update={"seen": seen})


def _unless_copied(entry: DatasetEntry, card: DatasetCard, known: Seen, seen: Seen) -> Seen:
    """Return `seen`, with what was known where nothing but times differ: a copy, a checkout.

    The bytes are read for that, once for each copy: the answer is kept beside Snakemake's records.
    """
    answers: dict[str, bool] = read_json(ANSWERS) if ANSWERS.exists() else {}
    before = dict(answers)

    def settle(name: str, category: str, was: str, now: str) -> str:
        if now == was or now.partition("-")[0] != was.partition("-")[0]:
            return now
        question = f"{was} {now}"
        if question not in answers:
            answers[question] = _bytes_of(entry, card, name, category) == _bytes_were(
                entry, name, category
            )
        return was if answers[question] else now

    changes: dict[str, Any] = {
        name: {
            category: settle(name, category, getattr(known, name).get(category, ""), now)
            for category, now in getattr(seen, name).items()
        }
        for name in ("images", "masks")
    }
    if seen.archive is not None:
        changes["archive"] = settle("archive", "", known.archive or "", seen.archive)
    if answers != before:
        write_json(ANSWERS, answers)
    return seen.model_copy(update=changes)


def _bytes_of(entry: DatasetEntry, card: DatasetCard, name: str, category: str) -> str | None:
    """Return a digest of what a source holds now; None where only a run could tell."""
    place = entry.place
    assert place is not None
    if name == "archive":
        files = [place / file.name for file in card.files] if place.is_dir() else [place]
        return " ".join(map(sha256_file, files)) if all(map(Path.is_file, files)) else None
    with open_archive(place) as folder:
        found = find_records(folder, card, category)
        names = found.masks if name == "masks" else {record.source for record in found.records}
        return content_digest({file: sha256_member(folder, file) for file in names})


def _bytes_were(entry: DatasetEntry, name: str, category: str) -> str | None:
    """Return the same of what it held when it was read."""
    if name == "archive":
        receipt = _receipt("fetched", archive=entry.archive)
        files = receipt.facts.get("files", []) if receipt else []
        return " ".join(file["sha256"] for file in files)
    receipt = _receipt(RECEIPTS[name], dataset=entry.name, category=category)
    return receipt.facts.get("content") if receipt else None


def _look(place: Path, card: DatasetCard, categories: list[str]) -> Seen:
    """Return digests of what a source holds; DataError: its card finds no images in it."""
    holds_files = card.files and all((place / file.name).is_file() for file in card.files)
    if place.is_dir() and (card.conversion or holds_files):  # fetched as if from a server
        return Seen(archive=_whole(place))
    if not place.is_dir() and (card.conversion or archive_kind(place) != "zip"):
        status = place.stat()
        return Seen(archive=f"{status.st_size}-{status.st_mtime_ns}")
    with open_archive(place) as archive:
        found = {name: find_records(archive, card, name) for name in categories}
        for category in found.values():
            check_labels(card, category)
        if isinstance(archive, Folder):
            return Seen(
                images={name: _stamp(archive, of, "images") for name, of in found.items()},
                masks={name: _stamp(archive, of, "masks") for name, of in found.items()},
            )
        return Seen(archive=stamp(archive))


def _stamp(folder: Folder, found: Found, name: str) -> str:
    """Return a stamp of images or masks, and of what their paths and tables say of them.

    Not of the tables: who adds a column of masks or of remarks has changed no image.
    """
    if name == "masks":
        masked = [(record.source, record.mask) for record in found.records if record.mask]
        return stamp(folder, found.masks, repr(masked))
    said = [(r.source, r.split, r.gt_label, r.defect, r.group) for r in found.records]
    return stamp(folder, [record.source for record in found.records], repr(said))


def _known(study: Study, entry: DatasetEntry) -> Seen | None:
    """Return what a source held when it was read; None if it never was."""
    seen: dict[str, dict[str, Any]] = {"images": {}, "masks": {}}
    for name, listed in seen.items():
        for category in study.categories(entry.name):
            receipt = _receipt(RECEIPTS[name], dataset=entry.name, category=category)
            listed[category] = receipt and receipt.settings.get("seen")
    if all(seen["images"].values()):
        return Seen(images=seen["images"], masks={k: v for k, v in seen["masks"].items() if v})
    fetched = _receipt("fetched", archive=entry.archive)
    own = fetched and fetched.settings.get("own")
    return Seen(archive=own) if own else None


def _receipt(name: str, **words: str) -> Receipt | None:
    path = Path(PATHS[name].format(**words))
    return read_receipt(path) if path.exists() else None


@contextmanager
def reading(folder: Path | None, archive: Path | None) -> Iterator[Path]:
    """Yield what a step reads: the archive, which is ours, or a folder where it is.

    Raises:
        DataError: the folder is not the same afterwards as before.
    """
    place = folder or archive
    assert place is not None, "an archive, or a folder that is read where it is"
    before = _whole(place) if folder else None
    yield place
    if folder and _whole(place) != before:
        raise DataError(f"{place} was changed while it was read: run the same command again.")


def _whole(place: Path) -> str:
    with open_archive(place) as folder:
        return stamp(folder)
