"""MedMNIST's arrays and BraTS' volumes, whole and damaged, as images."""

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.data.convert import convert_archive
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import SourceFile
from aeflow.study.layouts import BratsConversion, MedmnistConversion
from tests.unit.data.toy_dataset import left, make_card, write_zip

Arrays = dict[str, NDArray[Any]]
MEDMNIST = MedmnistConversion(kind="medmnist", classes=["normal", "Bad Thing (x)"])
BRATS = BratsConversion(
    kind="brats", modality="flair", step=5, min_brain=0.2, min_tumour=0.1, percentiles=(0, 100)
)


def arrays(channels: int = 1, side: int = 12) -> Arrays:
    draw = np.random.default_rng(0)
    shape = (side, side) if channels == 1 else (side, side, channels)
    found: Arrays = {}
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        found[f"{split}_images"] = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        found[f"{split}_labels"] = draw.integers(0, 2, (count, 1), dtype=np.uint8)
    return found


def npz(content: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(
        file, **{key: value for key, value in content.items() if value is not None}
    )
    return file.getvalue()


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., dict[str, NDArray[np.uint8]]]:
    def run(conversion: Any, members: dict[str, bytes]) -> dict[str, NDArray[np.uint8]]:
        source, target = write_zip(tmp_path / "files.zip", members), tmp_path / "images.zip"
        number = convert_archive(conversion, source, target)
        with ZipFile(target) as archive:
            names = archive.namelist()
            files = [Image.open(io.BytesIO(archive.read(name))) for name in names]
            found = dict(zip(names, map(np.asarray, files), strict=True))
        assert number == len(found)
        return found

    return run


@pytest.mark.parametrize("channels", [1, 3])
def test_medmnist_images_are_its_arrays(convert: Any, channels: int) -> None:
    content = arrays(channels)
    found = convert(MEDMNIST, {"x_64.npz": npz(content)})
    assert len(found) == 10
    folders = ("normal", "bad_thing_x_")
    for key, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        for number, label in enumerate(content[f"{key}_labels"][:, 0]):
            pixels = found[f"{split}/{folders[label]}/{number:06}.png"]
            np.testing.assert_array_equal(pixels, content[f"{key}_images"][number])


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "files.zip", {"x.npz": npz(arrays())})
    for name in ("a", "b"):
        convert_archive(MEDMNIST, source, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    big: Arrays = {}
    for split, count in (("train", 4000), ("val", 1), ("test", 1)):
        big[f"{split}_images"] = np.zeros((count, 64, 64, 3), dtype=np.uint8)  # 49 MB
        big[f"{split}_labels"] = np.zeros((count, 1), dtype=np.uint8)
    source = write_zip(tmp_path / "files.zip", {"x.npz": npz(big)})
    big.clear()
    tracemalloc.start()
    try:
        convert_archive(MEDMNIST, source, tmp_path / "images.zip")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays() | {"val_labels": None}, "val_labels"),
        (arrays() | {"train_labels": np.full((5, 1), 2, np.uint8)}, "one of the 2 labels"),
        (arrays() | {"train_labels": np.zeros((4, 1), np.uint8)}, r"shape .* for 4 labels"),
        (arrays() | {"train_labels": np.zeros((5, 2), np.uint8)}, "labels for each image"),
        (arrays() | {"test_images": np.zeros((2, 4, 4, 2), np.uint8)}, "test_images has"),
        (arrays() | {"test_images": np.zeros((2, 1, 5000), np.uint8)}, "too large"),
        (arrays() | {"test_images": np.zeros((2, 4, 4), np.float32)}, "an array of float32"),
        (arrays() | {"test_images": np.array([{}, {}], dtype=object)}, "an array of object"),
        (
            arrays() | {"test_images": np.asfortranarray(np.zeros((2, 4, 4), np.uint8))},
            "an array of uint8",
        ),
    ],
)
def test_a_file_that_is_no_medmnist(convert: Any, content: Arrays, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(MEDMNIST, {"x.npz": npz(content)})


def test_a_cut_array_and_no_array(convert: Any) -> None:
    cut = io.BytesIO()
    with ZipFile(io.BytesIO(npz(arrays()))) as whole, ZipFile(cut, "w", ZIP_DEFLATED) as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(name, content[:-1] if name == "test_images.npy" else content)
    with pytest.raises(DataError, match="ends too early"):
        convert(MEDMNIST, {"x.npz": cut.getvalue()})
    with pytest.raises(DataError, match=r"x\.npz is no MedMNIST file"):
        convert(MEDMNIST, {"x.npz": b"words"})
    with pytest.raises(DataError, match=r"0 \.npz files instead of one"):
        convert(MEDMNIST, {"x.txt": b"words"})


SHAPE = (20, 24, 31)


def volumes() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return a brain in the slices 4 to 26, and a tumour that grows from slice 11 on.

    Axes towards left, back, top, as BraTS has them.
    """
    flair = np.zeros(SHAPE, dtype=np.int16)
    flair[2:18, 2:22, 4:27] = np.arange(16 * 20 * 23).reshape(16, 20, 23) % 1000 + 1
    seg = np.zeros(SHAPE, dtype=np.uint8)
    for z in range(11, 27):
        seg[4:6, 4 : 4 + z - 10, z] = 1 + z % 2 * 3
    return flair, seg


def case(
    flair: NDArray[Any], seg: NDArray[Any] | None, name: str = "BraTS2021_00001", **options: Any
) -> dict[str, bytes]:
    affine = options.get("affine", np.diag([-1, -1, 1, 1]))
    kinds = {"flair": flair, "t1": flair} | ({} if seg is None else {"seg": seg})
    return {
        f"data/{name}/{name}_{kind}.nii.gz": gzip.compress(
            nib.Nifti1Image(volume, affine).to_bytes(), 1
        )
        for kind, volume in kinds.items()
    }


def test_slices_of_a_volume_whatever_the_axes_of_its_file(convert: Any) -> None:
    flair, seg = volumes()
    found = convert(BRATS, case(flair, seg))
    # 0 and 30 hold no brain; 15 has tumour in 10 of 320 pixels, too little; 20 in 20, 25 in 30.
    normal = {f"slices/normal/BraTS2021_00001_{z:03}.png" for z in (5, 10)}
    assert set(found) == normal
    share = BRATS.model_copy(update={"min_tumour": 0.05})
    found = convert(share, case(flair, seg))
    kept = {
        f"{of}/BraTS2021_00001_{z:03}.png" for of in ("slices/tumour", "masks") for z in (20, 25)
    }
    assert set(found) == normal | kept
    for z in (20, 25):
        # Rows run to the back, columns to the left.
        mask = found[f"masks/BraTS2021_00001_{z:03}.png"]
        np.testing.assert_array_equal(mask, (seg[:, :, z].T > 0) * np.uint8(255))
        pixels = found[f"slices/tumour/BraTS2021_00001_{z:03}.png"]
        expected = np.where(flair > 0, np.rint(255 * (flair - 1.0) / 999), 0)[:, :, z].T
        np.testing.assert_array_equal(pixels, expected)
    # The same brain, stored as top, right, front.
    turned = [np.transpose(v, (2, 0, 1))[:, ::-1, ::-1] for v in (flair, seg)]
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    again = convert(share, case(*turned, affine=affine))
    assert again.keys() == found.keys()
    for name, pixels in found.items():
        np.testing.assert_array_equal(again[name], pixels)


def test_percentiles_cut_both_ends(convert: Any) -> None:
    flair, seg = volumes()
    flair[3, 3, 5] = 30_000  # one bright voxel would darken all others
    cut = BRATS.model_copy(update={"percentiles": (1.0, 99.0)})
    pixels = convert(cut, case(flair, seg))["slices/normal/BraTS2021_00001_010.png"]
    assert pixels.max() > 200
    assert convert(BRATS, case(flair, seg))["slices/normal/BraTS2021_00001_010.png"].max() < 20


def test_volumes_that_cannot_be_used(convert: Any, caplog: pytest.LogCaptureFixture) -> None:
    flair, seg = volumes()
    other = case(flair, None, "BraTS2021_00002")
    assert len(convert(BRATS, case(flair, seg) | other)) == 2
    assert "1 cases have no mask" in caplog.text
    with pytest.raises(DataError, match="no image that the conversion would keep"):
        convert(BRATS, other)
    with pytest.raises(DataError, match=r"BraTS2021_00001: the mask is .*\(20, 24, 30\)"):
        convert(BRATS, case(flair, seg[:, :, :-1]))
    with pytest.raises(DataError, match="BraTS2021_00001: the volume is empty"):
        convert(BRATS, case(flair * 0, seg))
    with pytest.raises(DataError, match="4 dimensions instead of 3"):
        convert(BRATS, case(flair[..., None].repeat(2, 3), seg))
    with pytest.raises(DataError, match="no file is called"):
        convert(BRATS, {"x": b""})


@pytest.mark.parametrize("content", [b"words", gzip.compress(b"words", mtime=0), b""])
def test_damaged_volumes_are_named(convert: Any, content: bytes) -> None:
    members = case(*volumes())
    name = "data/BraTS2021_00001/BraTS2021_00001_flair.nii.gz"
    with pytest.raises(DataError, match=r"BraTS2021_00001_flair\.nii\.gz is no NIfTI"):
        convert(BRATS, members | {name: content})
    with pytest.raises(DataError, match=r"BraTS2021_00001_flair\.nii\.gz is no NIfTI"):
        convert(BRATS, members | {name: members[name][:-2000]})


def test_files_are_converted_while_they_are_fetched(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(arrays()))
    card = make_card(SourceFile(name="x.npz"), conversion=MEDMNIST.model_dump())
    destination = tmp_path / "raw/images.zip"
    facts = fetch_dataset(card, destination, None, str(tmp_path))
    assert facts.keys() == {"files"}  # the zip is none of them
    assert left(destination) == ["images.zip"]
    with ZipFile(destination) as archive:
        assert len(archive.namelist()) == 10


def test_an_encrypted_member_of_an_npz_is_a_sentence(convert: Any) -> None:
    content = bytearray(npz(arrays()))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag is there twice
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + place] |= 1
    with pytest.raises(DataError, match=r"x\.npz is no MedMNIST file, or damaged .*encrypted"):
        convert(MEDMNIST, {"x.npz": bytes(content)})


@pytest.mark.parametrize("method", [1, 6, 99])
def test_an_npz_in_an_unknown_compression_is_a_sentence(convert: Any, method: int) -> None:
    content = bytearray(npz(arrays()))
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + place] = method
    with pytest.raises(DataError, match=r"x\.npz is no MedMNIST file, or damaged"):
        convert(MEDMNIST, {"x.npz": bytes(content)})


@pytest.mark.parametrize("zipped", [False, True])
def test_a_nifti_that_is_cut_or_changed_is_read_or_a_sentence(convert: Any, zipped: bool) -> None:
    """At any length; and with any byte of its header another, as dimensions it has not."""
    volume = np.random.default_rng(0).integers(0, 99, (8, 8, 6)).astype(np.int16)
    whole = nib.Nifti1Image(volume, np.eye(4)).to_bytes()
    name = "BraTS2021_00001/BraTS2021_00001_{}.nii" + (".gz" if zipped else "")
    packed = gzip.compress if zipped else bytes
    ends = (0, 1, 3, 4, 347, 348, 351, 352, 400, len(whole) - 1)
    damaged = [packed(whole)[: min(end, len(packed(whole)) - 1)] for end in ends]
    draw = np.random.default_rng(1)
    for _ in range(100):
        changed = bytearray(whole)
        changed[draw.integers(352)] = int(draw.integers(256))
        damaged.append(packed(bytes(changed)))
    refused = 0
    for content in damaged:
        members = {name.format("flair"): content, name.format("seg"): packed(whole)}
        try:
            convert(BRATS, members)
        except DataError:
            refused += 1
    assert refused >= len(ends)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_with_numbers_that_are_none_is_a_sentence(convert: Any, value: float) -> None:
    """One NaN beside the brain made all slices black."""
    volume = np.ones((40, 40, 9), np.float32)
    volume[0, 0, 0] = value
    with pytest.raises(DataError, match=r"_flair\.nii holds numbers that are not finite"):
        convert(BRATS, case_of(volume))


def test_a_volume_of_colours_is_a_sentence(convert: Any) -> None:
    colours = np.zeros((40, 40, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match=r"_flair\.nii is no NIfTI volume, or damaged"):
        convert(BRATS, case_of(colours))


def case_of(volume: NDArray[Any]) -> dict[str, bytes]:
    name = "BraTS2021_00001/BraTS2021_00001_{}.nii"
    mask = np.zeros(volume.shape, np.uint8)
    return {
        name.format(kind): nib.Nifti1Image(content, np.eye(4)).to_bytes()
        for kind, content in (("flair", volume), ("seg", mask))
    }


def test_a_header_of_an_array_without_end_is_not_read(convert: Any) -> None:
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as arrays_file:
        long = b"\x93NUMPY\x02\0" + (2**26).to_bytes(4, "little") + bytes(2**26)
        arrays_file.writestr("train_labels.npy", long)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"version \(2, 0\) of the \.npy format"):
        convert(MEDMNIST, {"x.npz": file.getvalue()})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24
