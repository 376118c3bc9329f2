"""A category of deep images: what is measured, on which images, and what a user is told."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.data.decode import decode_image
from aeflow.data.image_files import ImageFacts
from aeflow.data.intensity import Levels
from aeflow.data.prepare import Checked, check_images, prepare_images, prepare_masks
from aeflow.data.workers import archive_workers
from aeflow.study.settings import DataSettings
from tests.unit.data.dicom_files import dicom
from tests.unit.data.image_kinds import tiff
from tests.unit.data.toy_dataset import asked_of, encode, make_card, noise, write_zip

pytestmark = pytest.mark.usefixtures("read_here")
SIDE = 32
ANY = r"toy/(?P<split>train|test)/(?P<defect>[^/]+)/(?P<stem>[^/.]+)(?:\.\w+)?"
CARD = make_card(
    counts={"all": None},
    layout={"image": ANY, "mask": "toy/ground_truth/{defect}/{stem}.*"},
)
Members = dict[str, bytes]


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": SIDE, "val_fraction": 0.25, **changes})


def levels_of(most: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, most + 1, (SIDE, SIDE)).astype(np.uint16)
    values[0, 0], values[-1, -1] = 0, most
    return values


def folder(
    code: Callable[[np.ndarray], bytes], most: int, test_most: int, ending: str = ""
) -> Members:
    """28 training normals, whose levels go up to `most`, and 3 + 3 test images."""
    kinds = [("train/good", 28, most), ("test/good", 3, test_most), ("test/hole", 3, test_most)]
    return {
        f"toy/{kind}/{number:02}{ending}": code(levels_of(high, 100 * place + number))
        for place, (kind, count, high) in enumerate(kinds)
        for number in range(count)
    }


def prepare(tmp_path: Path, members: Members, **changes: object) -> tuple[dict[str, Any], Any]:
    """Return the facts, and source -> prepared gray."""
    archive = write_zip(tmp_path / "a.zip", members)
    images, index = tmp_path / "images.npy", tmp_path / "index.csv"
    facts = prepare_images(archive, asked_of(CARD, settings(**changes)), images, index, 1)
    sources = [line.split(",")[5] for line in index.read_text().splitlines()[1:]]
    return facts, dict(zip(sources, np.load(images)[..., 0], strict=True))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    return [text for text in told if "no groups are known" not in text]


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (imagecodecs.png_encode, ".png"),
        (lambda values: encode(values, "TIFF"), ".tif"),
        (dicom, ".dcm"),
        (lambda values: dicom(values, preamble=False), ""),
    ],
)
def test_twelve_bits_in_sixteen_are_told_and_mended_by_a_key(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    code: Callable[[np.ndarray], bytes],
    ending: str,
) -> None:
    members = folder(code, most=4095, test_most=6000, ending=ending)
    facts, prepared = prepare(tmp_path, members)
    assert max(pixels.max() for pixels in prepared.values()) == round(6000 / 257)
    trained = facts["counts"]["train"]
    assert facts["intensity"]["deep"] == trained
    assert facts["intensity"]["levels"] is None
    [told] = warned(caplog)
    assert told.startswith(f"toy/all: {trained} training normals: their levels go from ")
    assert "of 256 gray levels they get 16. Set data.intensity to range or" in told
    caplog.clear()

    facts, prepared = prepare(tmp_path, members, intensity="range")
    # Of the training normals alone: the test goes up to 6000.
    assert facts["intensity"]["used"][::3] == [0, 4095]
    assert facts["intensity"]["levels"] == [0, 4095]
    assert warned(caplog) == []
    for source, pixels in prepared.items():
        kept = decode_image(members[source], settings(intensity="range"), Levels(0, 4095))
        np.testing.assert_array_equal(pixels, kept.pixels[..., 0])
        assert pixels.max() == 255


def test_stray_pixels_do_not_count_as_percentiles(tmp_path: Path) -> None:
    def code(values: np.ndarray) -> bytes:
        values[3, 3] = 65535  # a hot pixel
        return imagecodecs.png_encode(values)

    facts, prepared = prepare(tmp_path, folder(code, 4095, 4095), intensity="percentiles")
    lowest, low, high, highest = facts["intensity"]["used"]
    assert (lowest, highest) == (0, 65535)
    assert facts["intensity"]["levels"] == [low, high]
    assert 0 < low < 60
    assert 4000 < high < 4200
    assert np.median(list(prepared.values())) == pytest.approx(127, abs=4)


@pytest.mark.parametrize("stray", [65535, -3.4e38])
def test_a_range_that_stray_pixels_make_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stray: float
) -> None:
    """A hot pixel, or what geographers write where nothing was measured."""

    def code(values: np.ndarray) -> bytes:
        found = values.astype(np.float32 if stray < 0 else np.uint16)
        found[3, 3] = stray
        return tiff(found)

    members = folder(code, 4095, 4095)
    prepare(tmp_path, members, intensity="range")
    [told] = warned(caplog)
    assert "of all levels, stray pixels among them: of 256 gray levels they get" in told
    assert told.endswith("Set data.intensity to percentiles")
    caplog.clear()
    prepare(tmp_path, members, intensity="percentiles")
    assert warned(caplog) == []


def test_no_image_of_validation_or_test_shapes_the_levels(tmp_path: Path) -> None:
    members = folder(imagecodecs.png_encode, most=1000, test_most=50)
    _, prepared = prepare(tmp_path, members, intensity="range")
    lines = (tmp_path / "index.csv").read_text().splitlines()
    held_out = [line.split(",")[5] for line in lines if ",train," not in line][1:]
    assert any("/train/" in source for source in held_out)  # those of validation
    for source in held_out:
        members[source] = imagecodecs.png_encode(levels_of(60000, 7))
    facts, after = prepare(tmp_path, members, intensity="range")
    assert facts["intensity"]["levels"] == [0, 1000]
    for source, pixels in prepared.items():
        if source not in held_out:
            np.testing.assert_array_equal(pixels, after[source])


def test_each_dicom_file_has_its_window(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def code(values: np.ndarray) -> bytes:
        return dicom(values, bits=12, WindowCenter=2048, WindowWidth=4097)

    facts, prepared = prepare(tmp_path, folder(code, 4095, 4095), intensity="window")
    assert all(pixels.max() == 255 for pixels in prepared.values())
    assert facts["intensity"]["levels"] is None
    assert warned(caplog) == []
    members = folder(lambda values: dicom(values, bits=12), 4095, 4095)
    with pytest.raises(DataError, match=r"34 of 34 images are unusable .*no VOI window"):
        prepare(tmp_path, members, intensity="window")


def test_ranges_that_differ_between_files_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slopes = iter(range(1, 100))  # as PET has
    members = folder(lambda v: dicom(v, bits=12, RescaleSlope=next(slopes)), 4095, 4095)
    prepare(tmp_path, members)
    [told] = warned(caplog)
    assert "the range of levels differs from file to file" in told
    caplog.clear()
    prepare(tmp_path, members, intensity="percentiles")
    assert warned(caplog) == []


def test_images_of_more_and_of_eight_bits_together_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = folder(lambda v: encode((v >> 4).astype(np.uint8)), 4095, 4095)
    source = next(name for name in members if "/test/hole/" in name)
    members[source] = imagecodecs.png_encode(levels_of(60000, 1))
    prepare(tmp_path, members)
    [told] = warned(caplog)
    assert told.startswith("toy/all: 1 of 34 images have more than 8 bits")
    with pytest.raises(DataError, match=r"1 of 34 .*no training normal has more than 8"):
        prepare(tmp_path, members, intensity="range")


def test_what_was_decided_for_many_images_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = folder(lambda v: encode((v >> 4).astype(np.uint8)), 4095, 4095)
    pages = [Image.fromarray(noise(channels=1, seed=n)) for n in range(4)]
    stack = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for name in list(members)[:4]:
        members[name] = stack + name.encode()
    prepare(tmp_path, members)
    told = "toy/all: 4 of 34 images have several frames (pages), of which the first is used"
    assert [text for text in warned(caplog) if text.startswith(told)] == warned(caplog) != []
    caplog.clear()
    facts, prepared = prepare(tmp_path, members, frame=3)
    assert warned(caplog) == []
    assert facts["kinds"][1]["frames"] == 4
    np.testing.assert_array_equal(prepared[next(iter(members))], np.asarray(pages[2]))


def test_lossy_masks_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = folder(lambda v: encode((v >> 4).astype(np.uint8)), 4095, 4095)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[5:18, 5:18] = 255
    for number in range(3):
        members[f"toy/ground_truth/hole/{number:02}.jpg"] = encode(mask, "JPEG", quality=60)
    prepare(tmp_path, members)
    caplog.clear()
    given = (tmp_path / "a.zip", asked_of(CARD, settings()), tmp_path / "index.csv")
    prepare_masks(*given, tmp_path / "masks.npy", 1)
    [told] = warned(caplog)
    assert told.startswith("toy/all: 3 of 3 masks have values between black and white")
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), [mask > 0] * 3)


FIRST = [f"toy/train/good/{number:02}" for number in range(3)]


@pytest.fixture
def checked(tmp_path: Path) -> tuple[Checked, list[tuple[str, str]]]:
    members = folder(imagecodecs.png_encode, 4095, 4095)
    bad, jpeg, wide = FIRST
    members |= {bad: b"words", jpeg: encode(noise(40, 50), "JPEG")}
    members[wide] = encode(noise(30, 90), "JPEG")
    archive = write_zip(tmp_path / "a.zip", members)
    told: list[tuple[str, str]] = []
    with archive_workers(archive, 1) as pool:
        assert isinstance(pool, ProcessPoolExecutor)
        found = check_images(
            *(archive, asked_of(CARD, settings()), pool),
            lambda level, text: told.append((level, text)),
            measured=True,
        )
    return found, told


def test_the_check_opens_every_file(checked: tuple[Checked, list[tuple[str, str]]]) -> None:
    found, told = checked
    bad, jpeg, _ = FIRST
    assert str(found.looks[bad]).startswith("not an image of a known kind")
    facts = found.looks[jpeg]
    assert isinstance(facts, ImageFacts)
    assert (facts.format, facts.size, facts.channels, facts.bits) == ("JPEG", (50, 40), 3, 8)
    deep = found.looks["toy/train/good/03"]
    assert isinstance(deep, ImageFacts)
    assert deep.used is not None
    assert (deep.bits, deep.used.highest) == (16, 4095)
    assert ("ok", "31 PNG, bits 16, channels 1, frames 1, pixels 32x32, levels 0 to 4095") in told
    [jpegs] = [text for level, text in told if level == "ok" and text.startswith("2 JPEG")]
    assert jpegs.startswith("2 JPEG, bits 8, channels 3, frames 1, pixels 50x40 to 90x30, levels ")
    [error] = [text for level, text in told if level == "error"]
    assert error.startswith(f"files that cannot be used: 1, such as {bad}: not an image")
    [note] = [text for _, text in told if "Set data.intensity" in text]
    assert note.startswith("31 images of more than 8 bits: their levels go from ")
