"""Whatever the bytes of an image or a mask are: they are pixels, or refused with a reason."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from aeflow.data.decode import decode_image, decode_mask, look_at_image
from aeflow.data.image_files import ImageFacts, UnusableImageError
from aeflow.data.intensity import Levels
from aeflow.study.settings import DataSettings
from tests.fuzz.budget import tried
from tests.unit.data.dicom_files import dicom
from tests.unit.data.image_kinds import DEEP, SHALLOW, SIDE, deep
from tests.unit.data.toy_dataset import encode, noise

WHOLE = {kind: encode(noise(), kind) for kind in SHALLOW}
WHOLE |= {f"deep {kind}": written(deep(12)) for kind, written in DEEP.items()}
WHOLE["dicom"] = dicom(deep(12), bits=12, RescaleSlope=2, RescaleIntercept=-5)
IMAGE = ImageFacts("PNG", SIDE, SIDE, 8, 3, 1, Levels(0, 255), 1)
STARTS = (
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0+",
    b"\x08\0\x05\0CS",
    b"P6 9 ",
)


def check(content: bytes, intensity: str) -> None:
    settings = DataSettings(image_size=SIDE, intensity=intensity)
    with contextlib.suppress(UnusableImageError):
        found, facts = decode_image(content, settings, Levels(0, 4095))
        assert found.shape == (SIDE, SIDE, 3)
        assert look_at_image(content, settings).size == facts.size
    with contextlib.suppress(UnusableImageError):
        assert decode_mask(content, settings, IMAGE).pixels.max() <= 1


@tried(50)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0.5, 1),
    st.sampled_from(["full", "range", "window"]),
)
def test_damaged_bytes_are_an_image_or_refused(
    kind: str, edits: list[tuple[int, int]], kept: float, intensity: str
) -> None:
    content = bytearray(WHOLE[kind])
    for place, value in edits:
        content[place % len(content)] = value
    check(bytes(content[: int(kept * len(content))]), intensity)


@tried(50)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_any_bytes_are_an_image_or_refused(start: bytes, rest: bytes) -> None:
    check(start + rest, "full")
