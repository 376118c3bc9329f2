"""The gallery: small pictures of every test image of a cell, its reconstruction and its maps.

Panels are drawn from it and the page to browse is made from it, so that they need neither
checkpoint nor images nor torch.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path

SIDE, MAP_SIDE = 128, 64  # pixels of a picture and of a map, at most
QUALITY = 85
# Kept as files, JPEG or, of masks, PNG of one bit. `difference` is gray, in 1/255.
FILES = ("image", "reconstruction", "difference", "mask")
Arrays = dict[str, NDArray[Any]]


def shrink(pictures: NDArray[Any], side: int = SIDE) -> NDArray[Any]:
    """Average pictures in bytes, or maps, down to `side`: (K, H, W, ...) -> (K, s, s, ...)."""
    if pictures.shape[1] <= side:
        return pictures
    images = [Image.fromarray(picture) for picture in pictures]
    return np.stack([np.asarray(i.resize((side, side), Image.Resampling.BOX)) for i in images])


def in_bytes(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pictures in [0, 1] in 0 to 255."""
    return (255 * pictures.astype(np.float32)).round().astype(np.uint8)


def as_file(picture: NDArray[Any]) -> bytes:
    """Return a picture, (s, s, 3) or (s, s) in bytes, as JPEG; a mask of bool as PNG."""
    file, image = io.BytesIO(), Image.fromarray(picture)
    if image.mode == "1":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def write_gallery(path: Path, gallery: Mapping[str, Any]) -> None:
    """Write a gallery of K images; the same content gives the same bytes.

    Args:
        path: an .npz file.
        gallery: `image_id` (K,), and of each name in `FILES` that there is K pictures `as_file`;
            an empty file is a mask that is not known. Other maps are `<name>_map`, (K, h, w) in a
            resolution of their own, kept in half precision. `<name>_scale`, also of the
            difference: the median of the validation normals' maps, and what 95 % of them are
            nowhere above; absent where there are no such normals.
    """
    packed: Arrays = {}
    for name, values in gallery.items():
        if name in FILES:
            packed[name] = np.frombuffer(b"".join(values), dtype=np.uint8)
            packed[f"{name}_ends"] = np.cumsum([len(file) for file in values], dtype=np.int64)
        else:
            values = np.asarray(values)
            packed[name] = values.astype(np.float16) if name.endswith("_map") else values
    with atomic_path(path) as part:
        np.savez_compressed(part, allow_pickle=False, **packed)


def read_gallery(path: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Read what `write_gallery` was given, or `image_id` and these names of it alone.

    Raises:
        DataError: the file is missing, or no gallery.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            read = {*(names or file.files), "image_id"}
            arrays = {n: file[n] for n in file.files if n.removesuffix("_ends") in read}
        found: dict[str, Any] = {}
        for name, values in arrays.items():
            if name in FILES:
                content, ends = values.tobytes(), arrays[f"{name}_ends"].tolist()
                pairs = zip([0, *ends[:-1]], ends, strict=True) if ends else ()
                found[name] = [content[start:end] for start, end in pairs]
            elif name in read:
                found[name] = values
        known = len(found["image_id"])
        wrong = [n for n, each in found.items() if n[-6:] != "_scale" and len(each) != known]
        if wrong:
            raise ValueError(f"{wrong[0]} has another length")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: `dvc pull {path}`, or score again.") from error
    except (ValueError, TypeError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is no gallery: score the images again.") from error
    return found


def read_pictures(
    path: Path, images: Sequence[str] | None = None, maps: Collection[str] | None = None
) -> Arrays:
    """Return the pictures of some images, or of all, as arrays of K, in the images' order.

    Args:
        images: their `image_id`.
        maps: names of maps; None: all, and the reconstruction.

    Returns:
        `image_id`; `image` and with a decoder `reconstruction`, uint8 (K, s, s, 3); with it
        `difference`, and each `<name>_map`, float (K, s, s); `mask`, bool (K, s, s), and
        `has_mask`, whether it is known. `<name>_scale`, (2,), as `write_gallery` has it.

    Raises:
        DataError: the file is missing, or no gallery; it lacks an image.
    """
    names = None
    if maps is not None:
        names = ["image", "mask", *maps, *(f"{name.removesuffix('_map')}_scale" for name in maps)]
    gallery = read_gallery(path, names)
    known = {str(name): row for row, name in enumerate(gallery["image_id"])}
    if lacking := [name for name in images or () if name not in known]:
        raise DataError(f"{path} lacks {lacking[0]}: score the images again.")
    rows = list(known.values()) if images is None else [known[name] for name in images]
    found: Arrays = {name: gallery[name] for name in gallery if name.endswith("_scale")}
    found["image_id"] = gallery["image_id"][rows]
    try:
        for name in [name for name in FILES if name in gallery and name != "mask"]:
            found[name] = _stacked([as_array(gallery[name][row]) for row in rows])
        side = found["image"].shape[1]
        masks = [gallery["mask"][row] for row in rows]
        empty = np.zeros((side, side), bool)
        found["mask"] = _stacked([as_array(mask) if mask else empty for mask in masks])
        found["has_mask"] = np.array([bool(mask) for mask in masks], bool)
        for name in [name for name in gallery if name.endswith("_map")]:
            small = [Image.fromarray(values) for values in gallery[name][rows].astype(np.float32)]
            large = [each.resize((side, side), Image.Resampling.BILINEAR) for each in small]
            found[name] = _stacked([np.asarray(each) for each in large])
    except (ValueError, KeyError, OSError) as error:
        raise DataError(f"{path} is no gallery: score the images again.") from error
    if "difference" in found:
        found["difference"] = found["difference"] / 255
    return found


def as_array(file: bytes) -> NDArray[Any]:
    """Return the picture of a file of a gallery."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def _stacked(pictures: list[NDArray[Any]]) -> NDArray[Any]:
    return np.stack(pictures) if pictures else np.zeros((0, 1, 1), np.uint8)
