import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.data.decode import decode_image, decode_mask
from aeflow.data.prepare import prepare_images
from aeflow.study.cards import DatasetCard
from aeflow.study.settings import DataSettings

WriteZip = Callable[[Path, dict[str, bytes]], Path]
MakeCard = Callable[..., DatasetCard]
ROOT = Path(__file__).parents[3]
MASK = "toy/ground_truth/{defect}/{stem}_mask.png"
OUTPUTS = ("images.npy", "masks.npy", "index.csv")


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": 32, "val_fraction": 0.25, **changes})


def prepare(
    archive: Path, card: DatasetCard, folder: Path, workers: int = 1, **changes: object
) -> dict[str, Any]:
    outputs = [folder / name for name in OUTPUTS]
    return prepare_images(archive, card, "all", settings(**changes), *outputs, workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_nothing_left(folder: Path) -> None:
    assert not folder.exists() or list(folder.iterdir()) == []


def test_arrays_index_and_manifest(
    tmp_path: Path, archive: Path, card: DatasetCard, members: dict[str, bytes]
) -> None:
    manifest = prepare(archive, card, tmp_path / "out")
    images = np.load(tmp_path / "out/images.npy", mmap_mode="r", allow_pickle=False)
    masks = np.load(tmp_path / "out/masks.npy", mmap_mode="r", allow_pickle=False)
    with (tmp_path / "out/index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    counts = {"train": 30, "validation_normal": 10, "validation_anomalous": 6}
    assert manifest["counts"] == {**counts, "test_normal": 5, "test_anomalous": 5}
    assert images.shape == (56, 32, 32, 3)
    assert masks.shape == (5, 32, 32)
    assert len({row["source"] for row in rows}) == len(rows) == 56
    for row, pixels in zip(rows, images, strict=True):
        content = members[row["source"]]
        expected, size = decode_image(content, settings())
        np.testing.assert_array_equal(pixels, expected)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["source"] == row["image_id"] + ".png"
        assert row["source"].split("/")[2] == row["defect"]
        assert row["gt_label"] == str(int(row["defect"] == "hole"))
        assert (row["split"] == "test") == ("/test/" in row["source"])
        assert (row["mask_row"] != "") == (row["defect"] == "hole" and row["split"] == "test")
        if row["mask_row"]:
            name = f"toy/ground_truth/hole/{row['source'][-6:-4]}_mask.png"
            expected = decode_mask(members[name], settings(), size)
            assert expected.any()
            np.testing.assert_array_equal(masks[int(row["mask_row"])], expected)

    for key, path in [
        ("archive", archive),
        *((n.split(".")[0], tmp_path / "out" / n) for n in OUTPUTS),
    ]:
        assert manifest[f"{key}_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["settings"]["image_size"] == 32
    assert (manifest["unusable"], manifest["dropped_duplicates"]) == ([], 0)
    assert str(tmp_path) not in json.dumps(manifest)


def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, archive: Path, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aeflow.data.workers.CHUNK", 5)
    manifests = [prepare(archive, card, tmp_path / str(count), count) for count in (1, 2, 3)]
    assert manifests[0] == manifests[1] == manifests[2]
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def test_order_of_the_archive_does_not_matter(
    tmp_path: Path,
    archive: Path,
    card: DatasetCard,
    members: dict[str, bytes],
    write_zip: WriteZip,
) -> None:
    turned = write_zip(tmp_path / "turned.zip", dict(reversed(members.items())))
    prepare(archive, card, tmp_path / "one")
    prepare(turned, card, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_unusable_images_are_left_out_and_listed(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes], write_zip: WriteZip
) -> None:
    """The arrays hold the same rows as without the faults, minus the faulty ones."""
    prepare(write_zip(tmp_path / "good.zip", members), card, tmp_path / "good")
    faults = {
        "toy/test/good/01.png": (members["toy/test/good/01.png"][:900], "cannot be decoded"),
        "toy/test/hole/02.png": (b"words", "not an image"),
        "toy/test/hole/03.png": (members["toy/test/hole/00.png"], "its mask is 43 x 36 pixels"),
    }
    broken = {**members, **{name: content for name, (content, _) in faults.items()}}
    archive = write_zip(tmp_path / "broken.zip", broken)
    manifest = prepare(archive, card, tmp_path / "broken", max_unusable_share=0.06)
    assert [entry["source"] for entry in manifest["unusable"]] == sorted(faults)
    for entry in manifest["unusable"]:
        assert faults[entry["source"]][1] in entry["reason"]
    assert manifest["counts"]["test_normal"] == 4
    assert manifest["counts"]["test_anomalous"] == 3

    def table(folder: str) -> dict[str, tuple[bytes, bytes]]:
        images, masks = (np.load(tmp_path / folder / name) for name in OUTPUTS[:2])
        with (tmp_path / folder / "index.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(images) == len(rows)
        assert len(masks) == sum(row["mask_row"] != "" for row in rows)
        return {
            row["source"]: (
                image.tobytes(),
                masks[int(row["mask_row"])].tobytes() if row["mask_row"] else b"",
            )
            for row, image in zip(rows, images, strict=True)
        }

    expected = {name: row for name, row in table("good").items() if name not in faults}
    assert table("broken") == expected


def test_too_many_unusable_images_are_an_error(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes], write_zip: WriteZip
) -> None:
    names = sorted(name for name in members if "/test/" in name)[:7]
    archive = write_zip(tmp_path / "a.zip", {**members, **dict.fromkeys(names, b"words")})
    with pytest.raises(DataError) as caught:
        prepare(archive, card, tmp_path / "out", max_unusable_share=0.1)
    message = str(caught.value)
    assert "7 of 56 images are unusable" in message
    assert [name in message for name in names] == [True] * 5 + [False] * 2
    assert "and 2 more" in message
    assert "max_unusable_share (now 0.1)" in message
    assert_nothing_left(tmp_path / "out")
    with pytest.raises(DataError, match="unusable"):
        prepare(archive, card, tmp_path / "out")


def test_copies_of_test_images_are_dropped_and_counted(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes], write_zip: WriteZip
) -> None:
    members["toy/train/good/07.png"] = members["toy/test/good/00.png"]
    members["toy/train/good/08.png"] = members["toy/test/hole/00.png"]
    archive = write_zip(tmp_path / "a.zip", members)
    manifest = prepare(archive, card, tmp_path / "out")
    assert manifest["dropped_duplicates"] == 2
    assert "train/good/07" not in (tmp_path / "out/index.csv").read_text()
    assert manifest["counts"]["train"] + manifest["counts"]["validation_normal"] == 38


def test_failures_leave_nothing(
    tmp_path: Path,
    archive: Path,
    card: DatasetCard,
    make_card: MakeCard,
    members: dict[str, bytes],
) -> None:
    out = [tmp_path / "out" / name for name in OUTPUTS]
    with pytest.raises(DataError, match="train_normal: expected 1, found 40"):
        prepare(archive, make_card(), tmp_path / "out")
    with pytest.raises(ConfigError, match="no category 'al'"):
        prepare_images(archive, card, "al", settings(), out[0], out[1], out[2], 1)
    image = members["toy/train/good/20.png"]
    archive.write_bytes(archive.read_bytes().replace(image, image[:-1] + b"x"))
    with pytest.raises(DataError, match=r"toy/train/good/20\.png is damaged"):
        prepare(archive, card, tmp_path / "out", 2)
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="no readable zip"):
        prepare(archive, card, tmp_path / "out")
    with pytest.raises(DataError, match="is missing"):
        prepare(tmp_path / "nowhere.zip", card, tmp_path / "out")
    assert_nothing_left(tmp_path / "out")


def run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    return finished.stdout + finished.stderr


def test_script_writes_arrays_and_manifest(
    tmp_path: Path, archive: Path, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/datasets/toy.yaml").write_text(card.model_dump_json())
    script = [sys.executable, str(ROOT / "scripts/prepare_images.py"), "--dataset", "toy"]
    outputs = [f"--{name.split('.')[0]}={tmp_path / 'out' / name}" for name in OUTPUTS]
    fixed = [*script, f"--archive={archive}", *outputs, f"--log={tmp_path / 'prepare.log'}"]
    fixed += ["--settings", settings().model_dump_json(), f"--manifest={tmp_path / 'toy.json'}"]
    monkeypatch.chdir(tmp_path)
    assert "no category 'brick'" in run([*fixed, "--category", "brick"])
    assert not (tmp_path / "toy.json").exists()
    told = run([*fixed, "--category", "all", "--workers", "2"])
    assert re.fullmatch(r"toy/all: 56 images prepared in [\d.]+ s, \d+ per second\n", told)
    expected = prepare(archive, card, tmp_path / "expected")
    assert json.loads((tmp_path / "toy.json").read_text()) == expected
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert "per second" in (tmp_path / "prepare.log").read_text()
