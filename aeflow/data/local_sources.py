"""Sources of one's own on this machine: whether they changed since they were read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json, write_json
from aeflow.core.receipts import Receipt, read_receipt
from aeflow.data.archives import (
    Archive,
    Folder,
    archive_kind,
    content_digest,
    open_archive,
    sha256_member,
    stamp,
)
from aeflow.data.records import check_labels, find_records
from aeflow.study.cards import DatasetCard
from aeflow.study.cells import PATHS, RECEIPTS
from aeflow.study.entries import DatasetEntry, Seen
from aeflow.study.study import Study

# Of a copy of a folder -> what its original was known by.
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
    known = _known(study, entry)
    where = f"datasets[{entry.name}].source: {entry.source}"
    if not place.exists():
        if known is None:
            raise ConfigError(f"{where} does not exist: name a folder, an archive or a URL.")
        return entry.model_copy(update={"seen": known})
    try:
        seen = _look(place, study.card(entry.name), study.categories(entry.name))
        if known is not None:
            seen = _unless_copied(entry, study.card(entry.name), known, seen)
    except DataError as error:
        raise ConfigError(f"{where}: {error}") from error
    return entry.model_copy(update={"seen": seen})


def _unless_copied(entry: DatasetEntry, card: DatasetCard, known: Seen, seen: Seen) -> Seen:
    """Return `seen`, with what was known where nothing but times differ: a copy, a checkout.

    The bytes are read for that, once for each copy: the answer is kept beside Snakemake's records.
    """
    answers: dict[str, str] = read_json(ANSWERS) if ANSWERS.exists() else {}
    before, place = dict(answers), entry.place
    assert place is not None
    for name, category, now in _digests(seen):
        was = getattr(known, name).get(category, "")
        if now != was and now.partition("-")[0] == was.partition("-")[0] and now not in answers:
            with open_archive(place) as folder:
                found = find_records(folder, card, category)
                files = found.masks if name == "masks" else found.used
                bytes_now = content_digest({file: sha256_member(folder, file) for file in files})
            receipt = _receipt(RECEIPTS[name], dataset=entry.name, category=category)
            same = receipt is not None and receipt.facts.get("content") == bytes_now
            answers[now] = was if same else now
    if answers != before:
        write_json(ANSWERS, answers)
    changes: dict[str, dict[str, str]] = {"images": {}, "masks": {}}
    for name, category, now in _digests(seen):
        changes[name][category] = answers.get(now, now)
    return seen.model_copy(update=changes)


def _digests(seen: Seen) -> list[tuple[str, str, str]]:
    return [
        (name, category, digest)
        for name in ("images", "masks")
        for category, digest in getattr(seen, name).items()
    ]


def _look(place: Path, card: DatasetCard, categories: list[str]) -> Seen:
    """Return digests of what a source holds; DataError: its card finds no images in it."""
    holds_files = card.files and all((place / file.name).is_file() for file in card.files)
    if place.is_dir() and (card.conversion or holds_files):  # fetched as if from a server
        with open_archive(place) as folder:
            return Seen(archive=stamp(folder, _names(folder)))
    if not place.is_dir() and (card.conversion or archive_kind(place) != "zip"):
        status = place.stat()
        return Seen(archive=f"{status.st_size}-{status.st_mtime_ns}")
    with open_archive(place) as archive:
        found = {name: find_records(archive, card, name) for name in categories}
        for category in found.values():
            check_labels(card, category.records)
        if isinstance(archive, Folder):
            return Seen(
                images={name: stamp(archive, of.used) for name, of in found.items()},
                masks={name: stamp(archive, of.masks) for name, of in found.items()},
            )
        return Seen(archive=stamp(archive, _names(archive)))


def _names(archive: Archive) -> list[str]:
    return [member.filename for member in archive.infolist()]


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
def unchanged(place: Path) -> Iterator[None]:
    """Check that a folder is the same after it was read as before; an archive is ours."""
    if not place.is_dir():
        yield
        return
    before = _whole(place)
    yield
    if _whole(place) != before:
        raise DataError(f"{place} was changed while it was read: run the same command again.")


def _whole(place: Path) -> str:
    with open_archive(place) as folder:
        return stamp(folder, _names(folder))
