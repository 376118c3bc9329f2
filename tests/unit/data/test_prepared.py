"""Reading prepared arrays: names that look like nothing, masks, rows, and damaged files."""

from pathlib import Path

import numpy as np
import pytest

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.data.prepared import UNKNOWN, Prepared, open_array, open_prepared
from tests.unit.tiny import TinyStudy


def paths(tiny: TinyStudy) -> list[Path]:
    return [tiny.folder / name for name in ("images.npy", "index.csv", "masks.npy")]


def opened(tiny: TinyStudy) -> Prepared:
    tiny.save()
    return open_prepared(*paths(tiny))


@pytest.mark.parametrize("name", ["NA", "nan", "NULL", "None", "", "1", "007", "1e3", "True", "-"])
def test_any_name_survives(tiny: TinyStudy, name: str) -> None:
    for row in tiny.rows:
        row["defect"] = row["group"] = name
    tiny.rows[4]["image_id"] = name or "x"
    index = opened(tiny).index
    assert list(index["defect"]) == list(index["group"]) == [name] * 26
    assert index["image_id"].iloc[4] == (name or "x")


def test_the_index_is_what_was_written_and_all_that_is_in_memory(tiny: TinyStudy) -> None:
    prepared = opened(tiny)
    index = prepared.index
    for column in index.columns:
        assert list(index[column]) == [row[column] for row in tiny.rows]
    assert isinstance(prepared.images, np.memmap)
    assert not prepared.images.flags.writeable
    np.testing.assert_array_equal(prepared.images, tiny.images)


def test_rows_are_those_of_split_and_label_in_order(tiny: TinyStudy) -> None:
    first = next(row for row in tiny.rows if row["split"] == "train")
    first["gt_label"] = 1  # never trained on
    prepared = opened(tiny)

    def wanted(*splits: str, labels: tuple[int, ...] = (0, 1)) -> list[int]:
        return [
            number
            for number, row in enumerate(tiny.rows)
            if row["split"] in splits and row["gt_label"] in labels
        ]

    assert list(prepared.rows(Split.TEST, Split.VALIDATION)) == wanted("test", "validation")
    assert list(prepared.rows(Split.TEST, gt_label=1)) == wanted("test", labels=(1,))
    assert list(prepared.train) == wanted("train", labels=(0,))
    assert len(prepared.train) == 11
    assert list(prepared.validation_normals) == wanted("validation", labels=(0,))
    assert len(prepared.validation_normals) == 4


def test_masks_belong_to_their_images(tiny: TinyStudy) -> None:
    draw = np.random.default_rng(2)
    known = tiny.masks[:, 0, 0] != UNKNOWN
    tiny.masks[known] = draw.integers(0, 2, (known.sum(), 32, 32), dtype=np.uint8)
    prepared = opened(tiny)
    for number in range(len(tiny.rows)):
        mask, expected = prepared.mask(number), tiny.mask(number)
        if expected is None:
            assert mask is None
            continue
        assert mask is not None
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)
    tiny.masks = tiny.masks[:0]
    prepared = opened(tiny)  # nothing is known of normal images either
    assert all(prepared.mask(number) is None for number in range(26))


@pytest.mark.parametrize("name", ["images", "masks"])
def test_arrays_that_do_not_belong_to_the_index(tiny: TinyStudy, name: str) -> None:
    setattr(tiny, name, getattr(tiny, name)[:-1])
    with pytest.raises(DataError, match=rf"{name}\.npy has \d+ rows but .*index\.csv names \d+"):
        opened(tiny)


@pytest.mark.parametrize("name", ["images.npy", "index.csv", "masks.npy"])
def test_a_missing_file_is_named(tiny: TinyStudy, name: str) -> None:
    (tiny.folder / name).unlink()
    with pytest.raises(DataError, match=rf"{tiny.folder / name} is missing: run"):
        open_prepared(*paths(tiny))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe", b'image_id,split\nx,"y\n'])
def test_a_damaged_index_is_named(tiny: TinyStudy, content: bytes) -> None:
    (tiny.folder / "index.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.csv is no index .*run again"):
        open_prepared(*paths(tiny))
    tiny.rows[0]["gt_label"] = "normal"
    with pytest.raises(DataError, match=r"index\.csv is no index .*normal"):
        opened(tiny)


@pytest.mark.parametrize("kept", [0, 6, 100, 5000, None])
def test_a_truncated_or_pickled_array_is_named(tiny: TinyStudy, kept: int | None) -> None:
    path = tiny.folder / "images.npy"
    if kept is None:
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{path} is damaged .*delete it"):
        open_array(path)
