"""Predictions of any number of images: nothing is lost, and memory does not grow."""

import csv
import json
import logging
import os
import pty
import re
import resource
import signal
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.detector import predictions
from aeflow.detector.detector import Detector, Packed
from aeflow.detector.predictions import BROWSED, NAME, PAGE, STARTED, Summary, predict
from aeflow.study.asked import MemberAsked, ScoreAsked, VariantAsked
from aeflow.study.settings import DataSettings, FitSettings, ScoreSettings, ThresholdSettings
from tests.unit.data.processes import start

SIDE = 32


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of the mean gradient, which has no weights."""
    path = tmp_path_factory.mktemp("packed") / "gradient.safetensors"
    score = ScoreSettings()
    computes = ScoreAsked(
        method="gradient", settings=FitSettings(), fpr_limit=0.3, top_shares=[0.03], maps=[]
    )
    facts = Packed(
        **dict.fromkeys(("study", "dataset", "variant"), "some"),
        category="all",
        judged=VariantAsked(
            method="gradient",
            encoder=None,
            map=None,
            score=score,
            threshold=ThresholdSettings(rule="specificity"),
        ),
        members=[
            {
                "computes": computes,
                "score": MemberAsked(name="gradient", method="gradient", score=score),
                "map": None,
            }
        ],
        encoders={},
        data=DataSettings(image_size=SIDE),
        levels=None,
        kinds=[],
        map_scale=None,
        made_from={},
        versions={},
    )
    known = torch.linspace(-40, 0, 21, dtype=torch.float64)
    names = ("low_gradient", "high_gradient", "compressed_bits")
    tensors = {f"validation.member0.{name}": known.clone() for name in names}
    tensors["validation.gt_label"] = torch.zeros(21, dtype=torch.int64)
    Detector(facts, tensors).save(path, tensors)
    return path


def write(folder: Path, count: int, side: int = 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(count)
    for number in range(count):
        pixels = draw.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


def table(out: Path) -> list[dict[str, str]]:
    with (out / NAME).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_cannot_be_read_is_listed_amid_the_others(packed: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "images", 40)
    odd = {"0017.png": b"\x89PNG no more", "0039.png": b"", "=sum.png": b"GIF89a"}
    for name, content in odd.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(2**31)
    out = tmp_path / "out"
    found = predict(Detector.load(packed), packed, [str(folder)], out)
    assert (found.images, found.unreadable) == (44, 6)
    rows = {Path(row["path"]).name: row for row in table(out)}
    assert list(rows) == sorted(rows)
    bad = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert sorted(bad) == sorted([*odd, "pipe.png", "gone.png", "huge.png"])
    assert bad["0039.png"] == "the file is empty"
    assert bad["pipe.png"] == "no regular file"
    assert bad["gone.png"] == "No such file or directory"
    assert all(row["verdict"] for name, row in rows.items() if name not in bad)


def test_images_of_one_name_have_pictures_of_their_own(packed: Path, tmp_path: Path) -> None:
    places = [str(write(tmp_path / name, 2)) for name in "ab"]
    (tmp_path / "a/0000.jpg").write_bytes((tmp_path / "a/0000.png").read_bytes())
    predict(Detector.load(packed), packed, places, tmp_path / "out")
    pictures = sorted(path.name for path in (tmp_path / "out/overlays").iterdir())
    assert pictures == [
        *("00001_0000.png", "00002_0000.png", "00003_0001.png"),
        *("00004_0000.png", "00005_0001.png"),
    ]


def test_the_page_has_no_pictures_of_an_earlier_call(packed: Path, tmp_path: Path) -> None:
    folder, out = write(tmp_path / "images", 2), tmp_path / "out"
    for pictures, detail in ((True, "overlays/00001_0000.png"), (False, None)):
        predict(Detector.load(packed), packed, [str(folder)], out, pictures=pictures)
        page = (out / PAGE).read_text()
        assert f'"detail":[{json.dumps(detail)},' in page
        assert (out / "overlays/00001_0000.png").is_file(), "nothing of the user's is removed"


def test_memory_does_not_grow_with_the_number_of_images(packed: Path, tmp_path: Path) -> None:
    """Decoded, all of them would be 160 MB; three batches are in work at once."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (600, 600), "gray").save(folder / "000.png")
    for number in range(1, 150):
        (folder / f"{number:03d}.png").hardlink_to(folder / "000.png")
    detector = Detector.load(packed)
    predict(detector, packed, [str(folder / "0[0-4]*.png")], tmp_path / "few")

    def peak() -> float:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak, from here on
    before = peak()
    predict(detector, packed, [str(folder)], tmp_path / "many")
    assert peak() - before < 60


def test_in_a_log_there_is_a_line_now_and_then(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "LINE_EVERY", 0.0)
    folder = write(tmp_path / "images", 40)
    with caplog.at_level(logging.INFO, logger="aeflow"):
        predict(Detector.load(packed), packed, [str(folder)], tmp_path / "out")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, "none when all is done"
    for line, done in zip(lines, (16, 32), strict=True):
        assert re.fullmatch(rf"{done} of 40 images, [\d.]+ per second, \d+ s left", line)


def shown_on(terminal: int) -> str:
    with suppress(OSError):  # nothing now, or nobody is left to write
        return os.read(terminal, 10_000).decode()
    return ""


def test_a_killed_call_goes_on_and_a_second_one_waits(packed: Path, tmp_path: Path) -> None:
    """On a terminal, with a bar that tells rate and time left."""
    folder, out = write(tmp_path / "images", 200), tmp_path / "out"
    whole = tmp_path / "whole"
    detector = Detector.load(packed)
    predict(detector, packed, [str(folder)], whole, pictures=False)
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    code = "import sys; from aeflow.cli import main; sys.exit(main(sys.argv[1:]))"
    given = ["predict", str(packed), str(folder), "--out", str(out)]
    process = start([sys.executable, "-c", code, *given], stdout=inside, stderr=inside)
    os.close(inside)
    part = out / STARTED
    os.set_blocking(terminal, False)
    told = ""
    while not part.is_file() or part.read_bytes().count(b"\n") < 50:
        assert process.poll() is None, told
        told += shown_on(terminal)
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(ConfigError, match="Another process writes its predictions"):
        predict(detector, packed, [str(folder)], out)
    process.kill()
    process.wait()
    told += shown_on(terminal)
    os.close(terminal)
    assert re.search(r"\d+/200 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+image/s\]", told)
    with part.open("ab") as file:
        file.write("half a row with a cut \u00e9".encode()[:-1])
    with pytest.raises(ConfigError, match="threshold, kind of maps or list of images: give"):
        predict(detector, packed, [str(folder / "0001.png")], out)
    begun = part.read_text(encoding="utf-8", errors="ignore").splitlines()[1:17]
    part.write_bytes(part.read_bytes().replace(b",normal,", b",kept,"))
    found = predict(detector, packed, [str(folder)], out)
    assert found == Summary(200, found.anomalous, 0)
    again = (out / NAME).read_text()
    assert again.count(",kept,") >= sum(",normal," in row for row in begun) > 0
    assert again.replace(",kept,", ",normal,") == (whole / NAME).read_text()
    assert not part.exists()
    assert len(list((out / "overlays").iterdir())) == 200
    small = [file.read_text().count("/9j/") for file in (out / BROWSED).glob("images-*.js")]
    assert sum(small) >= 200, "a picture of each for the page"


def test_where_nothing_can_be_written_nothing_is_lost(packed: Path, tmp_path: Path) -> None:
    folder, out = write(tmp_path / "images", 60), tmp_path / "out"
    detector, before = Detector.load(packed), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        with pytest.raises(DataError, match="files of that size are not allowed here"):
            predict(detector, packed, [str(folder)], out, pictures=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (out / STARTED).read_bytes().count(b"\n") > 16
    assert not (out / NAME).exists()
    found = predict(detector, packed, [str(folder)], out, pictures=False)
    assert (found.images, found.unreadable) == (60, 0)
    assert [Path(row["path"]).stem for row in table(out)] == [f"{n:04d}" for n in range(60)]

    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="there is a file where a folder is needed"):
        predict(detector, packed, [str(folder)], tmp_path / "file/out")


def test_a_detector_that_is_not_as_it_was_packed(packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()

    def refused(changed: bytes, said: str) -> None:
        other = tmp_path / "other.safetensors"
        other.write_bytes(changed)
        with pytest.raises(AeflowError, match=said):
            Detector.load(other)

    refused(content[:-9], "is damaged")
    refused(content[:4], "is damaged")
    refused(b"", "is damaged")
    flipped = bytearray(content)
    flipped[-20] ^= 1
    refused(bytes(flipped), "is not as it was packed")
    refused(content.replace(b"high_gradient", b"tall_gradient"), "is not as it was packed")
    refused(content.replace(b"study", b"stody", 1), "by another version of aeflow")
    refused(content.replace(b'"facts"', b'"fucts"'), "was not written by this program")
