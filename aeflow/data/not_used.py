"""Files of a source that its card does not read: why not, and what was meant perhaps."""

import re
from collections import Counter
from collections.abc import Collection
from difflib import get_close_matches

from aeflow.study.cards import DATASET_CARDS, DatasetCard, load_dataset_card
from aeflow.study.layouts import Layout

IMAGE = re.compile(
    r".*\.(?:png|jpe?g|jfif|jpe|bmp|tiff?|gif|webp|p[gpn]m|jp2|j2[ck]|jp[fx]|jxl|jls|dcm|dicom"
    r"|hei[cf]|avif|svg|nii(?:\.gz)?|nrrd|mha|npy|raw|svs|exr|tga|ico|psd|cr[23]|nef|arw|dng)",
    re.IGNORECASE,
)
TABLE = re.compile(r".*\.(?:csv|tsv|xlsx?|ods)", re.IGNORECASE)
NO_IMAGE = "neither an image nor a table"
UNREAD = "an ending that the card does not read"
SPARE_MASK = "masks of images that need none: normal, or not of the test"
_LIKE = 0.72  # of two words, from here on one is perhaps meant to be the other


def why_not_used(path: str, layout: Layout) -> str:
    """Return why a card with this layout does not read a file; `NO_IMAGE` where it should not."""
    table = TABLE.fullmatch(path) is not None
    if not table and IMAGE.fullmatch(path) is None:
        return NO_IMAGE
    if meant := _meant(path, layout):
        return f"did you mean {meant}?"
    if not table and layout.image and re.fullmatch(layout.image, f"{path.rpartition('.')[0]}.png"):
        return UNREAD
    if table:
        return "a table that the card does not read"
    if layout.image_list is not None:
        return "not in the list"
    if set(_folder_of_masks(layout)) & set(path.split("/")[:-1]):
        return "no image has this mask"
    return "not in a place that the card reads"


def _meant(path: str, layout: Layout) -> str | None:
    """Return the word of the layout that a folder or a table's name is nearly, if it is one."""
    # What follows `\.(?i:` are extensions.
    places = re.sub(r"\\\.\(\?i:.*|\(\?P<\w+>", "(", layout.image or "")
    words = [*re.findall(r"[A-Za-z_]{3,}", places), *_folder_of_masks(layout)]
    *folders, name = path.split("/")
    for word in folders:
        if word not in words and (close := close_to(word, words)):
            return f"{close}/ (there is {word}/)"
    tables = [table_name(pattern) for pattern in (layout.image_list, layout.groups) if pattern]
    close = None if name in tables else close_to(name, tables)
    return close and f"{close} (there is {name})"


def table_name(pattern: str) -> str:
    """Return the end of a pattern that has no signs of a regular expression but dots."""
    return pattern.rpartition("/)?")[2].replace("\\", "")


def _folder_of_masks(layout: Layout) -> list[str]:
    """Return the last folder whose name stands in the layout's masks, if there is one."""
    return re.findall(r"(?<!\w)[a-z_]{3,}(?=/)", re.sub(r"\{\w+\}", "", layout.mask or ""))[-1:]


def close_to(word: str, words: Collection[str], like: float = _LIKE) -> str | None:
    """Return which of some words a word is nearly, if it is one; `like` is how near, 0 to 1."""
    # With the same first letter: abnormal is not meant to be normal.
    plain = {_plain(known): known for known in words if _plain(known)[0] == _plain(word)[:1]}
    found = get_close_matches(_plain(word), list(plain), n=1, cutoff=like)
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return re.sub(r"[\s-]+", "_", word.strip().casefold())


def fitting_card(paths: Collection[str], card: DatasetCard | None = None) -> str | None:
    """Return the card for images of one's own that finds most of these files, if not this one."""
    fits: Counter[str] = Counter()
    for place in sorted(DATASET_CARDS.glob("*.yaml")):
        other = load_dataset_card(place.stem)
        if other.files or (card and other.name == card.name):
            continue
        layout = other.layout
        pattern = layout.image or layout.image_list or ""
        matching = [path for path in paths if re.fullmatch(pattern, path)]
        fits[other.name] = len(paths) if layout.image_list and matching else len(matching)
    [(name, number)] = fits.most_common(1) or [("", 0)]
    return name if number else None
