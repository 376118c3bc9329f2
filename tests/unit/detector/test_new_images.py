"""Where new images are found, and what is said of places that have none."""

import logging
import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from aeflow.core.errors import DataError
from aeflow.detector.new_images import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of two names twice, and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.DCM", "sub/a.png", "sub/scan", ".hidden.png", "notes.txt", "[1].png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    with ZipFile(tmp_path / "some.zip", "w") as archive:
        for name in ("x/a.png", "__MACOSX/a.png", "readme.md"):
            archive.writestr(name, f"zipped {name}")
    return tmp_path


def paths(*places: str) -> list[str]:
    return [image.path for image in find_images(places)]


def test_folders_patterns_files_and_archives(folder: Path) -> None:
    whole = ["[1].png", "a.png", "b.DCM", "sub/a.png", "sub/scan"]
    assert paths("images") == [f"images/{name}" for name in whole]
    assert paths("images/*.png") == ["images/[1].png", "images/a.png"]
    assert paths("images/**/a.png") == ["images/a.png", "images/sub/a.png"]
    assert paths(f"{folder}/i*/[ab].*") == [f"{folder}/images/a.png", f"{folder}/images/b.DCM"]
    assert paths("images/[1].png", "images/notes.txt") == ["images/[1].png", "images/notes.txt"]
    assert paths("some.zip") == ["some.zip/x/a.png"]
    assert paths("*.zip", "images/sub", "images/sub/a.png") == [
        *("some.zip/x/a.png", "images/sub/a.png", "images/sub/scan")
    ]
    read = [image.read() for image in find_images(["images/sub", "some.zip"])]
    assert read == [b"sub/a.png", b"sub/scan", b"zipped x/a.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", b"path,who\nimages/a.png,me\n,\n images/gone.png,you\n"),
        ("list.csv", b"\xef\xbb\xbfWho; Path \r\nme;images/a.png\r\nyou;images/gone.png\r\n"),
        ("list.tsv", "path\tnote\nimages/a.png\ta,b;c\nimages/gone.png\t\n".encode("utf-16")),
    ],
)
def test_a_list_as_spreadsheets_save_it(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert paths(name) == ["images/a.png", "images/gone.png"]
    (folder / "images" / name).write_text(f"path\n{folder}/images/b.DCM\nsub/scan\n")
    assert paths(f"images/{name}") == [f"{folder}/images/b.DCM", "images/sub/scan"]


def test_what_is_left_out_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="aeflow"):
        paths("images", "some.zip")
    assert [record.getMessage() for record in caplog.records] == [
        "images: 1 files do not end like images, such as notes.txt: left out",
        "some.zip: 1 files do not end like images, such as readme.md: left out",
    ]


def test_masks_of_a_dataset_are_left_out_unless_their_folder_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("train/good/0.png", "test/hole/0.png", "ground_truth/hole/0_mask.png")
    with ZipFile(folder / "parts.zip", "w") as archive:
        for name in names:
            archive.writestr(f"parts/nut/{name}", b"")
            (folder / "parts/nut" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "parts/nut" / name).touch()
    images = ["parts/nut/test/hole/0.png", "parts/nut/train/good/0.png"]
    with caplog.at_level(logging.INFO, logger="aeflow"):
        assert paths("parts") == images
        assert sorted(paths("parts.zip")) == [f"parts.zip/{name}" for name in images]
    told, zipped = (record.getMessage() for record in caplog.records)
    assert zipped.endswith("left out (unpack it and name that folder too to judge them)")
    assert told == (
        "parts: 1 masks in ground_truth, beside test, such as nut/ground_truth/hole/0_mask.png: "
        "left out (name that folder too to judge them)"
    )
    mask = "parts/nut/ground_truth/hole/0_mask.png"
    assert paths("parts", "parts/nut/ground_truth") == [*images, mask]
    assert paths("parts/**/*_mask.png") == [mask]
    (folder / "parts/nut/test").rename(folder / "parts/nut/other")  # then it is only a name
    assert mask in paths("parts")


def test_any_name_stands_in_one_line(folder: Path) -> None:
    names = [b"line\nbreak.png", b"tab\t.png", b"\xff.png", "a\u2028b.png".encode()]
    (folder / "odd").mkdir()
    for name in names:
        (folder / "odd" / os.fsdecode(name)).write_bytes(name)
    found = find_images(["odd"])
    assert sorted(image.read() for image in found) == sorted(names)
    assert sorted(image.path for image in found) == [
        *("odd/\\udcff.png", "odd/a\\u2028b.png", "odd/line\\nbreak.png", "odd/tab\\t.png")
    ]


def test_a_place_without_images_is_told_in_a_sentence(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "none.csv").write_text("file;label\na;b\n")
    (folder / "blank.csv").write_text("path\n\n")
    (folder / "list.xlsx").write_bytes(b"PK\x03\x04\xff\xfe\xfd")
    (folder / "cut.zip").write_bytes((folder / "some.zip").read_bytes()[:-30])
    for place, said in (
        ("nowhere", "nowhere is not there"),
        ("a**b/*[", "is not there"),
        ("empty", "empty has no images"),
        ("blank.csv", "blank.csv has no images"),
        ("none.csv", "none.csv has no column 'path', but file, label."),
        ("list.xlsx", "list.xlsx is no table of text: save it as CSV in UTF-8."),
        ("cut.zip", "cut.zip is no readable zip"),
    ):
        with pytest.raises(DataError) as caught:
            find_images(["images", place])
        assert said in str(caught.value)
