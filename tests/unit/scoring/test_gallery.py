"""The gallery: what is kept, how small it is, and that it is read without unpickling."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data, transform

from aeflow.core.errors import DataError
from aeflow.scoring.gallery import FILES, as_file, read_gallery, read_pictures, write_gallery


def make_arrays(count: int) -> dict[str, Any]:
    """Return pictures of real gravel, the hardest to compress."""
    photograph = data.gravel()
    crops = [photograph[8 * k : 8 * k + 128, 5 * k : 5 * k + 128] for k in range(count)]
    image = np.repeat(np.stack(crops)[..., None], 3, axis=3)
    generator = np.random.default_rng(0)
    return {
        "image_id": np.array([f"test/{k}" for k in range(count)]),
        "image": image,
        "reconstruction": image[:, ::-1],
        "difference": generator.integers(0, 90, (count, 128, 128)).astype(np.uint8),
        "mask": generator.random((count, 128, 128)) > 0.5,
        "padim_map": -generator.random((count, 16, 16)),
        "padim_scale": (-0.5, -0.1),
    }


def write(path: Path, arrays: dict[str, Any]) -> None:
    files = {name: [as_file(each) for each in arrays[name]] for name in FILES}
    write_gallery(path, arrays | files)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    arrays = make_arrays(5)
    path = tmp_path / "gallery.npz"
    write(path, arrays)
    gallery = read_pictures(path)
    assert list(gallery["image_id"]) == list(arrays["image_id"])
    assert gallery["image"].shape == (5, 128, 128, 3)
    error = gallery["image"].astype(float) - arrays["image"]
    assert np.abs(error).mean() < 5, "JPEG may cost a few gray levels"
    assert np.array_equal(gallery["mask"], arrays["mask"])
    assert np.abs(gallery["difference"] - arrays["difference"] / 255).mean() < 0.05
    expected = transform.resize(
        arrays["padim_map"][0], (128, 128), order=1, mode="edge", anti_aliasing=False
    )
    assert np.abs(gallery["padim_map"][0] - expected).max() < 2e-3
    some = read_pictures(path, ["test/3", "test/1"], ["padim_map"])
    assert tuple(some.pop("padim_scale")) == (-0.5, -0.1)
    assert set(some) == {"image_id", "image", "mask", "has_mask", "padim_map"}
    for name, values in some.items():
        assert np.array_equal(values, gallery[name][[3, 1]])
    with pytest.raises(DataError, match="lacks test/9"):
        read_pictures(path, ["test/9"])


def test_forty_pictures_of_gravel_stay_below_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "gallery.npz"
    arrays = make_arrays(40)
    arrays["difference"] = arrays["image"][..., 0] // 4
    arrays["mask"] = arrays["image"][..., 0] > 250
    write(path, arrays)
    assert path.stat().st_size < 1_000_000


def test_a_damaged_gallery_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gallery.npz"
    with pytest.raises(DataError, match="is missing"):
        read_gallery(path)
    np.savez(path, image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no gallery"):
        read_gallery(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="no gallery"):
        read_gallery(path)
