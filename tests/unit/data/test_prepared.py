"""Reading prepared arrays: names that look like nothing, masks, rows, and damaged files."""

from pathlib import Path

import numpy as np
import pytest

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.data.prepared import Prepared, open_array, open_prepared
from tests.unit.tiny import TinyStudy


def paths(tiny: TinyStudy) -> list[Path]:
    return [tiny.folder / name for name in ("images.npy", "masks.npy", "index.csv")]


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


def test_the_index_is_what_was_written(tiny: TinyStudy) -> None:
    index = opened(tiny).index
    for column in index.columns.drop("mask_row"):
        assert list(index[column]) == [row[column] for row in tiny.rows]
    known = index["mask_row"].notna()
    assert list(known) == [row["mask_row"] != "" for row in tiny.rows]
    assert list(index["mask_row"][known]) == [0, 1, 2]


def test_rows_are_those_of_split_and_label_in_order(tiny: TinyStudy) -> None:
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
    assert list(prepared.validation_normals) == wanted("validation", labels=(0,))
    assert len(prepared.validation_normals) == 4


def test_an_anomalous_image_in_train_is_not_trained_on(tiny: TinyStudy) -> None:
    number = next(n for n, row in enumerate(tiny.rows) if row["split"] == "train")
    tiny.rows[number]["gt_label"] = 1
    prepared = opened(tiny)
    assert number not in prepared.train
    assert len(prepared.train) == 11


def test_masks_belong_to_their_images(tiny: TinyStudy) -> None:
    draw = np.random.default_rng(2)
    tiny.masks = draw.integers(0, 2, tiny.masks.shape, dtype=np.uint8)
    prepared = opened(tiny)
    for number, row in enumerate(tiny.rows):
        mask = prepared.mask(number)
        if row["mask_row"] != "":
            assert mask is not None
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, tiny.masks[row["mask_row"]])
        elif row["gt_label"] == 0:
            assert mask is not None
            assert mask.shape == (32, 32)
            assert not mask.any()
        else:
            assert mask is None


def test_without_masks_nothing_is_known_of_normal_images_either(tiny: TinyStudy) -> None:
    for row in tiny.rows:
        row["mask_row"] = ""
    tiny.masks = tiny.masks[:0]
    prepared = opened(tiny)
    assert all(prepared.mask(number) is None for number in range(26))


def test_nothing_but_the_index_is_in_memory(tiny: TinyStudy) -> None:
    prepared = opened(tiny)
    assert isinstance(prepared.images, np.memmap)
    assert not prepared.images.flags.writeable
    np.testing.assert_array_equal(prepared.images, tiny.images)


@pytest.mark.parametrize("name", ["images", "masks"])
def test_arrays_that_do_not_belong_to_the_index(tiny: TinyStudy, name: str) -> None:
    setattr(tiny, name, getattr(tiny, name)[:-1])
    with pytest.raises(DataError, match=rf"{name}\.npy has \d+ rows but .*index\.csv names \d+"):
        opened(tiny)


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "index.csv"])
def test_a_missing_file_is_named(tiny: TinyStudy, name: str) -> None:
    (tiny.folder / name).unlink()
    with pytest.raises(DataError, match=rf"{tiny.folder / name} is missing: run"):
        open_prepared(*paths(tiny))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe", b'image_id,split\nx,"y\n'])
def test_a_damaged_index_is_named(tiny: TinyStudy, content: bytes) -> None:
    (tiny.folder / "index.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.csv .*run prepare_images again"):
        open_prepared(*paths(tiny))


def test_a_label_that_is_no_number(tiny: TinyStudy) -> None:
    tiny.rows[0]["gt_label"] = "normal"
    with pytest.raises(DataError, match=r"index\.csv is no index .*normal"):
        opened(tiny)


@pytest.mark.parametrize("kept", [0, 6, 100, 5000])
def test_a_truncated_array_is_named(tiny: TinyStudy, kept: int) -> None:
    path = tiny.folder / "images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{path} is damaged .*delete it"):
        open_array(path)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy is damaged"):
        open_array(tmp_path / "x.npy")
