"""Arrays, index and facts of a category, the same bytes always, and nothing on a failure."""

import csv
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.receipts import read_receipt
from aeflow.data.decode import decode_image, decode_mask
from aeflow.data.prepare import prepare_images, prepare_masks
from aeflow.data.prepared import UNKNOWN, open_prepared
from aeflow.study.cards import DatasetCard, load_dataset_card
from aeflow.study.settings import DataSettings
from aeflow.study.study import Study
from tests.unit.data.processes import ROOT, on_small_disk, run, start
from tests.unit.data.toy_dataset import asked_of, encode, make_card, noise, sha256, write_zip

GROUPLESS = (
    "no groups are known: if several images show one part or patient, say so in groups.csv, or "
    "some may both train and validate"
)
OUTPUTS = ("images.npy", "index.csv")


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": 32, "val_fraction": 0.25, **changes})


def prepare(
    archive: Path, card: DatasetCard, folder: Path, workers: int = 1, **changes: object
) -> dict[str, Any]:
    outputs = [folder / name for name in OUTPUTS]
    return prepare_images(archive, asked_of(card, settings(**changes)), *outputs, workers)


def prepare_all(
    archive: Path, card: DatasetCard, folder: Path, workers: int = 1, **changes: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Prepare images, then masks; return the facts of both."""
    facts = prepare(archive, card, folder, workers, **changes)
    given = (archive, asked_of(card, settings(**changes)), folder / "index.csv")
    return facts, prepare_masks(*given, folder / "masks.npy", workers)


def masks_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the mask of each anomalous test image, by the image's path."""
    judged = [row for row in rows_of(folder) if (row["split"], row["gt_label"]) == ("test", "1")]
    masks = np.load(folder / "masks.npy", allow_pickle=False)
    return dict(zip((row["source"] for row in judged), masks, strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_arrays_index_and_facts(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    copies = {
        "toy/train/good/07.png": members["toy/test/good/00.png"],
        "toy/train/good/08.png": members["toy/test/hole/00.png"],
        "toy/train/good/10.png": members["toy/train/good/09.png"],
        "toy/train/hole/01.png": members["toy/test/hole/01.png"],
    }
    members |= copies | {"toy/readme.txt": b"", "toy/x/a.txt": b"", "toy/x/b.txt": b""}
    with caplog.at_level("INFO"):
        facts, of_masks = prepare_all(
            write_zip(tmp_path / "a.zip", members), card, tmp_path / "out"
        )
    images = np.load(tmp_path / "out/images.npy", mmap_mode="r", allow_pickle=False)
    masks = masks_of(tmp_path / "out")
    rows = rows_of(tmp_path / "out")

    found = {"train_normal": 40, "train_anomalous": 6, "test_normal": 5, "test_anomalous": 5}
    anomalies = {"validation_anomalous": 5, "test_anomalous": 5}
    split = Counter(row["split"] for row in rows if row["gt_label"] == "0")
    normals = {"train": split["train"], "validation_normal": split["validation"], "test_normal": 5}
    del facts["content"]
    assert facts == {
        "contradicting": 1,
        "found": found | {"train": 46, "test": 10},
        "not_used": {"neither an image nor a table": {"toy/x/": 2, "toy/": 1}},
        "duplicates": {"number": 4, "in_two_splits": 3, "with_normals": 2},
        "groups": {"number": 0, "in_two_splits": 0, "with_normals": 0},
        **{"dropped_duplicates": 2, "dropped_groups": 0, "shared_groups": 0},
        **{"dropped_validation": 0, "dropped_anomalies": 1, "drawn_test": 0},
        "counts": normals | anomalies,
        "unusable": {},
        "kinds": [
            {"format": "PNG", "bits": 8, "channels": 3, "images": 56, "frames": 1, "used": None}
            | {"smallest": [40, 36], "largest": [44, 36]}
        ],
        "intensity": {"deep": 0, "used": None, "levels": None},
    }
    del of_masks["content"]
    assert of_masks == {"known": 5, "anomalous": 5, "unusable": {}}
    assert 9 <= split["validation"] <= 11
    assert split["train"] + split["validation"] == 38
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == [
        "toy/all: images with the same bytes are normal and anomalous: 1, such as "
        "toy/train/good/08.png (good) and toy/test/hole/00.png (hole)",
        "toy/all: 2 images left out of training, their bytes are in the test",
        f"toy/all: {GROUPLESS}",
    ]
    assert "byte-identical normal images in two splits: 2, such as" in caplog.text
    assert "files not used, neither an image nor a table: 3, such as toy/readme.txt" in caplog.text

    assert images.shape == (53, 32, 32, 3)
    assert len(masks) == 5
    assert len({row["source"] for row in rows}) == len(rows) == 53
    for row, pixels in zip(rows, images, strict=True):
        content = members[row["source"]]
        expected, shown = decode_image(content, settings())
        np.testing.assert_array_equal(pixels, expected)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["source"] == row["image_id"] + ".png"
        assert row["source"].split("/")[2] == row["defect"]
        assert row["gt_label"] == str(int(row["defect"] == "hole"))
        assert (row["split"] == "test") == ("/test/" in row["source"])
        assert (row["source"] in masks) == (row["defect"] == "hole" and row["split"] == "test")
        if row["source"] in masks:
            name = f"toy/ground_truth/hole/{row['source'][-6:-4]}_mask.png"
            expected = decode_mask(members[name], settings(), shown).pixels
            assert expected.any()
            np.testing.assert_array_equal(masks[row["source"]], expected)


def test_a_list_that_says_train_of_all_has_no_test(
    tmp_path: Path, members: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """And images of which some have a group are told: each of the others is taken for its own."""
    card = load_dataset_card("folder_list", ROOT / "config/datasets")
    names = [name for name in members if name.startswith("toy/train/good")]
    rows = [f"{name},normal,train,{'p' if n < 3 else ''}" for n, name in enumerate(names)]
    table = "\n".join(["path,label,split,group", *rows])
    archive = write_zip(tmp_path / "a.zip", members | {"list.csv": table.encode()})
    facts = prepare(archive, card, tmp_path / "out")
    assert facts["drawn_test"] == facts["counts"]["test_normal"] == 0
    assert "folder_list/all: no test images: a detector is trained" in caplog.text
    assert "no group is known of 37 of 40 images: each is taken for its own" in caplog.text


def test_normals_that_are_in_the_test_too_are_told_where_too_few_are_left(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes]
) -> None:
    good = [name for name in members if name.startswith("toy/train/good")]
    members |= {name.replace("train", "test"): members[name] for name in good}
    unknown = card.model_copy(update={"counts": {"all": None}})
    message = "train on: 0, but for 40 whose bytes or group are in the test"
    with pytest.raises(DataError, match=message):
        prepare(write_zip(tmp_path / "a.zip", members), unknown, tmp_path / "out")


def test_an_index_is_no_formula_whatever_files_and_labels_are_called(
    tmp_path: Path,
) -> None:
    """It is read back as it was, and a mask found by it."""
    listed = [
        ("=1+1", "normal", "train"),
        ("+b", "normal", "train"),
        ("@c", "=HYPERLINK(1)", "test"),
    ]
    rows = [f"{name}.png,{label},{split},-{name},{{}}" for name, label, split in listed]
    rows = [row.format("'m.png" if "test" in row else "") for row in rows]
    members = {f"{name}.png": encode(noise(seed=n)) for n, (name, _, _) in enumerate(listed)}
    members["'m.png"] = encode(noise(channels=1) // 200)
    members["list.csv"] = "\n".join(["path,label,split,group,mask", *rows]).encode()
    out = tmp_path / "out"
    _, masks = prepare_all(
        write_zip(tmp_path / "a.zip", members), load_dataset_card("folder_list"), out
    )
    assert masks["known"] == masks["anomalous"] == 1
    text = (out / "index.csv").read_text()
    assert re.search(r"(^|,)\"?[=+@-]", text, re.MULTILINE) is None
    index = open_prepared(out / "images.npy", out / "index.csv", out / "masks.npy").index
    assert {(r.image_id, r.source, r.defect, r.group) for r in index.itertuples()} == {
        (name, f"{name}.png", label, f"-{name}") for name, label, _ in listed
    }


def test_neither_workers_nor_the_order_of_the_archive_change_a_byte(
    tmp_path: Path,
    archive: Path,
    card: DatasetCard,
    members: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aeflow.data.workers.CHUNK", 5)
    turned = write_zip(tmp_path / "turned.zip", dict(reversed(members.items())))
    facts = [prepare_all(archive, card, tmp_path / "1")]
    facts.append(prepare_all(turned, card, tmp_path / "2", 2))
    assert facts[0] == facts[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_unusable_images_are_left_out_and_listed(
    tmp_path: Path, card: DatasetCard, members: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The array holds the same rows as without the faults, minus the faulty ones."""
    prepare_all(write_zip(tmp_path / "good.zip", members), card, tmp_path / "good")
    faults = {
        "toy/test/good/01.png": (members["toy/test/good/01.png"][:900], "cannot be decoded"),
        "toy/test/hole/02.png": (b"words", "not an image"),
    }
    other = {"toy/test/hole/03.png": members["toy/test/hole/00.png"]}  # of another size
    broken = {**members, **{name: content for name, (content, _) in faults.items()}, **other}
    archive = write_zip(tmp_path / "broken.zip", broken)
    facts, of_masks = prepare_all(archive, card, tmp_path / "broken", max_unusable_share=0.3)
    assert list(facts["unusable"]) == sorted(faults)
    for source, reason in facts["unusable"].items():
        assert faults[source][1] in reason
    assert (facts["counts"]["test_normal"], facts["counts"]["test_anomalous"]) == (4, 4)
    assert (of_masks["known"], of_masks["anomalous"]) == (3, 4)
    [[source, reason]] = of_masks["unusable"].items()
    assert (source, reason[:24]) == ("toy/test/hole/03.png", "its mask is 43 x 36 pixe")
    assert "1 of 4 masks are unusable" in caplog.text
    assert "1 of 4 anomalous test images have no mask" in caplog.text

    def table(folder: str) -> dict[str, bytes]:
        images = np.load(tmp_path / folder / "images.npy")
        rows = rows_of(tmp_path / folder)
        return {r["source"]: i.tobytes() for r, i in zip(rows, images, strict=True)}

    usable, kept = table("good"), table("broken")
    assert kept.pop(*other) != usable.pop(*other)
    assert kept == {name: pixels for name, pixels in usable.items() if name not in faults}
    good, left = masks_of(tmp_path / "good"), masks_of(tmp_path / "broken")
    assert (left.pop(*other) == UNKNOWN).all()
    assert all((mask == good[name]).all() for name, mask in left.items())
    for share, name in ((0.01, "images"), (0.2, "masks")):
        with pytest.raises(DataError, match=rf"toy/all: \d of \d+ {name} are unusable \(toy/test"):
            prepare_all(archive, card, tmp_path / "refused", max_unusable_share=share)


def test_failures_leave_nothing(
    tmp_path: Path, archive: Path, card: DatasetCard, members: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    names = sorted(name for name in members if "/test/" in name)[:7]
    unusable = write_zip(tmp_path / "a.zip", {**members, **dict.fromkeys(names, b"words")})
    with pytest.raises(DataError, match=r"7 of 56 images are unusable .*and 2 more\).*now 0\.1"):
        prepare(unusable, card, out, max_unusable_share=0.1)
    with pytest.raises(DataError, match="train_normal: expected 1, found 40"):
        prepare(archive, make_card(), out)
    asked = asked_of(card, settings(), "al")
    with pytest.raises(ConfigError, match="no category 'al'"):
        prepare_images(archive, asked, *(out / name for name in OUTPUTS), 1)
    image = members["toy/train/good/20.png"]
    archive.write_bytes(archive.read_bytes().replace(image, image[:-1] + b"x"))
    with pytest.raises(DataError, match=r"toy/train/good/20\.png is damaged"):
        prepare(archive, card, out, 2)
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="no readable zip"):
        prepare(archive, card, out)
    with pytest.raises(DataError, match="is missing"):
        prepare(tmp_path / "nowhere.zip", card, out)
    assert contents(out) == {}


def test_scripts_fetch_and_prepare_the_same_bytes_under_any_hash_seed(
    tmp_path: Path, archive: Path, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config/datasets").mkdir(parents=True)
    Path("config/datasets/toy.yaml").write_text(card.model_dump_json(exclude={"files"}))
    entry = {"name": "toy", "source": str(tmp_path / "folder")}
    Path("folder").mkdir()
    with ZipFile(archive) as opened:
        opened.extractall("folder")
    data = settings().model_dump()
    study = Study.model_validate({"study": "s", "datasets": [entry], "data": data})
    Path("study.json").write_text(study.model_dump_json())
    made: list[tuple[Any, ...]] = []
    for seed in ("1", "2"):
        for script, *of in (
            ("fetch_data", "--archive", "toy"),
            ("prepare_images", "--dataset", "toy", "--category", "all", "--workers", "1"),
        ):
            command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *of]
            told = run(
                [*command, "--study", "study.json", "--log", f"{script}.log"], PYTHONHASHSEED=seed
            )
        assert re.fullmatch(r"toy/all: 56 images prepared in [\d.]+ s, \d+ per second\n", told)
        fetched = read_receipt(Path("data/receipts/raw/toy.json"))
        prepared = read_receipt(Path("data/receipts/prepared/toy/all.json"))
        made.append((contents(Path("data/prepared/toy/all")), fetched.made, prepared.facts))
    assert made[0] == made[1]
    assert fetched.made == {"data/raw/toy.zip": sha256(Path("data/raw/toy.zip"))}
    assert fetched.facts["files"][0]["sha256"] == fetched.made["data/raw/toy.zip"]
    assert (fetched.warnings, prepared.warnings) == ([], [f"toy/all: {GROUPLESS}"])
    facts = prepare(Path("data/raw/toy.zip"), card, tmp_path / "expected")
    assert prepared.facts == facts
    assert made[0][0] == contents(tmp_path / "expected")
    assert str(tmp_path) not in Path("data/receipts/prepared/toy/all.json").read_text()
    assert "per second" in Path("prepare_images.log").read_text()


CHILD = """
import resource, sys
from pathlib import Path
from aeflow.core.errors import DataError
from aeflow.data.prepare import prepare_images
from aeflow.study.cards import DatasetCard, load_dataset_card
from aeflow.study.settings import DataSettings
from tests.unit.data.toy_dataset import asked_of
if __name__ == "__main__":
    archive, card, limit, out = sys.argv[1:]
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    card = DatasetCard.model_validate_json(Path(card).read_text())
    outputs = [Path(out, name) for name in ("images.npy", "index.csv")]
    settings = DataSettings(image_size=256, val_fraction=0.25)
    try:
        prepare_images(Path(archive), asked_of(card, settings), *outputs, 2)
    except DataError as error:
        print("DataError:", error)
"""


def child(folder: Path, archive: Path, card: DatasetCard, limit: int = 0) -> list[str]:
    """Return the command that prepares an archive at 256 pixels into a folder to be added."""
    (folder / "child.py").write_text(CHILD)
    (folder / "card.json").write_text(card.model_dump_json())
    paths = (folder / "child.py", archive, folder / "card.json")
    return [sys.executable, *map(str, paths), str(limit)]


def test_a_full_disk_or_a_limit_leaves_nothing(
    tmp_path: Path, archive: Path, card: DatasetCard
) -> None:
    told = on_small_disk(tmp_path, 2, [*child(tmp_path, archive, card), str(tmp_path / "disk")])
    [error] = [line for line in told if not line.startswith("toy/all: ")]
    assert error.startswith(f"DataError: Cannot write {tmp_path}/disk/images.npy: the disk is")
    out = tmp_path / "out"
    said = run([*child(tmp_path, archive, card, 1_000_000), str(out)])
    assert said.startswith(f"DataError: Cannot write {out}/images.npy: files of that")
    assert contents(out) == {}


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def slow(tmp_path: Path) -> list[str]:
    """As `child`, with images that take long to decode, so that a kill comes in the middle."""
    file = io.BytesIO()
    Image.effect_noise((1500, 1500), 90).save(file, "PNG", compress_level=1)
    names = [f"toy/train/good/{n:02}.png" for n in range(20)]
    names += [f"toy/test/good/{n:02}.png" for n in range(5)]
    members = {name: file.getvalue() + name.encode() for name in names}
    counts = {"all": {"train_normal": 20, "test_normal": 5, "test_anomalous": 0}}
    return child(tmp_path, write_zip(tmp_path / "slow.zip", members), make_card(counts=counts))


def test_killed_and_started_again(tmp_path: Path, slow: list[str]) -> None:
    out = tmp_path / "out"
    process = start([*slow, str(out)])
    wait_until(
        lambda: any(
            part.stat().st_size > 25 * 256 * 256 * 3 for part in out.glob(".images.*.part.npy")
        )
    )
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    assert not any((out / name).exists() for name in OUTPUTS)
    wait_until(lambda: not any(map(is_running, workers)))  # no orphan waits for work for ever
    again, undisturbed = (run([*slow, str(f)]) for f in (out, tmp_path / "undisturbed"))
    assert again == undisturbed
    assert {line.partition(":")[0] for line in again.splitlines()} == {"toy/all"}, "warnings alone"
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert sorted(contents(out)) == sorted(OUTPUTS)


def test_a_killed_worker_is_an_error(tmp_path: Path, slow: list[str]) -> None:
    out = tmp_path / "out"
    process = start([*slow, str(out)], stdout=subprocess.PIPE)
    wait_until(lambda: any(out.glob(".images.*.part.npy")))
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    told, _ = process.communicate(timeout=120)
    assert told.startswith("DataError: A process that read")
    assert contents(out) == {}
