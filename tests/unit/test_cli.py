"""The command `aeflow`: how it is called, its datasets, studies of one's own images."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from aeflow.cli import app, main
from aeflow.core.receipts import write_receipt
from aeflow.core.schema import validate
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import DATASET_CARDS, SourceFile, load_dataset_card
from aeflow.study.defaults import load_study
from aeflow.study.entries import DatasetEntry
from tests.unit.data.processes import ROOT
from tests.unit.data.toy_dataset import encode, make_card, sha256, write_zip


def png(letter: str) -> bytes:
    """Return an image that is another for each letter."""
    return encode(np.full((8, 8, 3), ord(letter), np.uint8))


pytestmark = pytest.mark.usefixtures("read_here")
PATH = r"(?P<split>train|test)/(?P<defect>good|hole)/(?P<group>\w+)-\d\.png"
COUNTS = {"train_normal": 5, "train_anomalous": 2, "test_normal": 2, "test_anomalous": 2}
IMAGES = {
    **{f"train/good/{name}.png": png(name[0]) for name in ("a-0", "b-0", "b-1", "i-0", "j-0")},
    **{f"train/hole/{name}.png": png(name[0]) for name in ("c-0", "d-0")},
    **{f"test/good/{name}.png": png(name[0]) for name in ("e-0", "f-0")},
    **{f"test/hole/{name}.png": png(name[0]) for name in ("g-0", "h-0")},
}
Check = Callable[..., tuple[int, list[str]]]
AEFLOW = [sys.executable, "-m", "aeflow", "datasets"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the card `toy`; return its archive."""
    archive = write_zip(tmp_path / "toy.zip", IMAGES)
    monkeypatch.chdir(tmp_path)
    file = SourceFile(name="toy.zip", sha256=sha256(archive), size_bytes=archive.stat().st_size)
    DATASET_CARDS.mkdir(parents=True)
    card = make_card(file, layout={"image": PATH}, counts={"all": COUNTS})
    (DATASET_CARDS / "toy.yaml").write_text(card.model_dump_json())
    return archive


@pytest.fixture
def check(toy: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Check `toy`; return the exit status and what was printed."""

    def checked(*options: str) -> tuple[int, list[str]]:
        status = main(["datasets", "check", "toy", *options])
        return status, capsys.readouterr().out.splitlines()

    return checked


def fetch(toy: Path) -> Path:
    archive = Path("data/raw/toy.zip")
    facts = fetch_dataset(load_dataset_card("toy"), archive, str(toy.parent))
    write(archive, facts)
    return archive


def write(archive: Path, facts: dict[str, object]) -> None:
    receipt, made = Path("data/receipts/raw/toy.json"), {archive: sha256(archive)}
    write_receipt(receipt, made=made, origin={}, settings={}, facts=facts)


def run(*words: str) -> tuple[str, set[str]]:
    """Run `aeflow` in a process of its own; return what it printed and the modules it imported."""
    command = [sys.executable, "-X", "importtime", "-m", "aeflow", *words]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    lines = done.stderr.decode().splitlines()
    return done.stdout.decode(), {line.rpartition("|")[2].strip() for line in lines}


def commands(command: Any, *words: str) -> Iterator[str]:
    """Yield the words of every command."""
    yield " ".join(words)
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)


def parse(line: str) -> None:
    """Read a line as the command does, without running it; typer.TyperException: it cannot."""
    (program, *words), command = shlex.split(line), typer.main.get_command(app)
    assert program == "aeflow"
    while words and words[0] in getattr(command, "commands", {}):
        command, *words = command.commands[words[0]], *words[1:]
    command.make_context(line, words)


def test_every_command_has_an_example_that_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = []
    for words in commands(typer.main.get_command(app), "aeflow"):
        assert main([*words.split()[1:], "--help"]) == 0
        told = capsys.readouterr().out
        example = " ".join(told.partition("Example: ")[2].split())
        assert example.startswith(words)
        parse(example)
        names.append(words)
    with pytest.raises(typer.TyperException):
        parse("aeflow pack demo --sede 3")
    page = (ROOT / "docs/commands.md").read_text()
    typed = re.findall(r"^(aeflow [^-].+?)(?: +#.*)?$", page, re.MULTILINE)
    for line in typed:
        parse(line)
    for words in names:
        assert any(line.startswith(words) for line in typed), words


def test_help_and_version_wait_for_no_library() -> None:
    help_, imported = run("--help")
    assert "compare" in help_
    assert "typer" in imported
    assert not {"torch", "numpy", "pandas", "pydantic"} & imported
    version, imported = run("--version")
    assert re.fullmatch(r"aeflow \S+, Python 3\.\S+, torch \d\S+\n", version)
    assert not {"torch", "numpy", "pandas", "pydantic"} & imported


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "Missing command (see `aeflow --help`)"),
        ("pac", "No such command 'pac'. Did you mean 'pack'? (see `aeflow --help`)"),
        ("pack demo", "Missing argument 'dataset' (see `aeflow pack --help`)"),
        ("pack a b c --seed x", "Invalid value for '--seed'"),
        ("pack a b c d", "Got unexpected extra argument(s) (d)"),
        ("datasets chek", "No such command 'chek'"),
        (
            "predict d i --out o --fpr 0.1 --threshold 1",
            "--threshold and --fpr exclude one another",
        ),
        ("predict d i --out o --maps gif", "'gif' is not one of 'none', 'npy', 'tiff'"),
        ("ls --al", "No such option: --al"),
    ],
)
def test_what_cannot_be_typed_is_told_in_a_sentence(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("aeflow: ")
    assert err.count("\n") == 1
    assert told in err
    assert out == ""


def test_the_shell_completes_commands_and_studies(tmp_path: Path) -> None:
    for name in ("screws", "small", "unfinished"):
        (tmp_path / "results" / name).mkdir(parents=True)
        if name != "unfinished":
            (tmp_path / f"results/{name}/study.json").write_text("{}")
    for words, wanted in (("aeflow comp", ["compare"]), ("aeflow pack s", ["screws", "small"])):
        asked = {"_AEFLOW_COMPLETE": "complete_bash", "COMP_WORDS": words}
        asked |= {"COMP_CWORD": str(words.count(" ")), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from aeflow.cli import main; main()"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **asked}, capture_output=True, text=True
        )
        assert done.stdout.split() == wanted


def test_every_card_of_the_repository_is_listed() -> None:
    out, imported = run("datasets")
    titles = [line.partition(":")[0] for line in out.splitlines() if line[0] != " "]
    assert titles == sorted(path.stem for path in (ROOT / DATASET_CARDS).glob("*.yaml"))
    for words in ("1,235.5 MB", "CC BY 4.0", "Kermany, Zhang, Goldbaum", "has to be asked for"):
        assert words in out
    assert "aeflow.study.cards" in imported
    assert not {"torch", "timm", "torchvision", "nibabel"} & imported


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["aeflow"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


def test_what_is_present_is_listed(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "present  nothing" in capsys.readouterr().out
    fetch(toy)
    receipt = Path("data/receipts/prepared/toy/all.json")
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    assert main(["datasets"]) == 0
    expected = "present  archive data/raw/toy.zip (0.0 MB); prepared all"
    assert expected in capsys.readouterr().out


def test_a_dataset_as_its_card_says_passes(toy: Path, check: Check) -> None:
    fetch(toy)
    status, told = check()
    assert told == [
        f"ok     data/raw/toy.zip is what was fetched, sha256 {sha256(toy)}",
        "ok     toy.zip has the checksum it should have",
        "ok     all: 2 test_anomalous, 2 test_normal, 2 train_anomalous, 5 train_normal, as on "
        "the card",
        "ok     all: labels: good (7), hole (4)",
        "ok     all: 11 PNG, bits 8, channels 3, frames 1, pixels 8x8, levels 97 to 106",
        "note   all: groups of byte-identical images: 1, none in two splits",
        "ok     all: patients or groups: 10, none in two splits",
        "note   all: few normal images to train on: 3",
        "ok     all: in use (patient_disjoint, val_fraction 0.15): 3 train, 4 validation, 4 test; "
        "none is in two",
        "                     normal  anomalous",
        "       train              3          0",
        "       validation         2          2",
        "       test               2          2",
        "toy: passed, notes: 2",
    ]
    assert status == 0


def test_normals_in_two_splits_are_errors(tmp_path: Path, check: Check) -> None:
    shared = {
        **IMAGES,
        "test/good/a-1.png": png("A"),
        "test/good/e-0.png": png("b"),
        "readme": b"",
    }
    del shared["test/good/f-0.png"]
    status, told = check("--source", str(write_zip(tmp_path / "own.zip", shared)))
    assert status == 1
    assert [line for line in told if line.startswith("error")] == [
        "error  all: byte-identical normal images in two splits: 1, such as test/good/e-0.png "
        "and train/good/b-1.png",
        "error  all: patients or groups with normal images in two splits: 1, such as "
        "test/good/a-1.png and train/good/a-0.png",
    ]
    assert "toy.zip: its checksum does not apply to a copy" in told[0]
    assert "note   all: files not used, neither an image nor a table: 1, such as readme" in told
    assert told[-1].startswith("toy: failed, errors: 2")


def test_anomalous_images_in_two_splits_are_notes(tmp_path: Path, check: Check) -> None:
    shared = {**IMAGES, "test/hole/c-1.png": png("C"), "test/hole/h-0.png": png("d")}
    del shared["test/hole/g-0.png"]
    folder = tmp_path / "own"
    for name, content in shared.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    status, told = check("--source", str(folder))
    assert status == 0
    notes = [line for line in told if line.startswith("note")]
    assert "byte-identical anomalous images in two splits: 1" in notes[1]
    assert "patients or groups with anomalous images in two splits: 1" in notes[2]
    assert not Path("data").exists()


@pytest.fixture
def boxes(toy: Path) -> Path:
    """A folder with one of two categories of the card `boxes`."""
    one = {"train_normal": 5, "test_normal": 2, "test_anomalous": 2}
    file = SourceFile(name="boxes.zip", sha256=sha256(toy))
    layout = {"image": rf"(?P<category>red|blue)/{PATH}"}
    card = make_card(file, layout=layout, counts={"red": one, "blue": one})
    card = card.model_copy(update={"name": "boxes"})
    (DATASET_CARDS / "boxes.yaml").write_text(card.model_dump_json())
    folder = toy.parent / "my boxes"
    for name, content in IMAGES.items():
        if "train/hole" not in name:
            write_bytes(folder / "blue" / name, content)
    return folder


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_part_of_a_dataset_passes_and_its_overlay_is_printed(
    boxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "check", "boxes", "--source", str(boxes)]) == 0
    told = capsys.readouterr().out
    assert "note   categories of the card that are not here: red\n" in told
    overlay = yaml.safe_load(told.partition("overlay:\n\n")[2].rpartition("boxes: passed")[0])
    assert overlay == {
        "datasets": [{"name": "boxes", "source": str(boxes), "categories": ["blue"]}]
    }
    arguments = ["datasets", "check", "boxes", "--source", str(boxes), "--category", "red"]
    assert main(arguments) == 1
    assert "error  red: no image of the category red is where" in capsys.readouterr().out
    assert main([*arguments[:-1], "blu"]) == 1
    assert "did you mean 'blue'?" in capsys.readouterr().err


def test_an_overlay_names_a_source_of_ones_own(
    boxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = make_card(layout={"image": PATH}, counts={"all": None})
    (DATASET_CARDS / "mine.yaml").write_text(
        card.model_copy(update={"name": "mine"}).model_dump_json()
    )
    assert main(["datasets", "check", "mine", "--source", str(boxes / "blue/../blue")]) == 0
    overlay = capsys.readouterr().out.partition("overlay:\n\n")[2].rpartition("mine: passed")[0]
    entry = {"name": "blue", "card": "mine", "source": str(boxes / "blue/../blue")}
    assert yaml.safe_load(overlay) == {"datasets": [entry]}


def test_files_that_cannot_be_opened_are_errors(tmp_path: Path, check: Check) -> None:
    damaged = {**IMAGES, "train/good/a-0.png": png("a")[:45], "test/hole/g-0.png": b"words"}
    status, told = check("--source", str(write_zip(tmp_path / "own.zip", damaged)))
    assert status == 1
    [error] = [line for line in told if line.startswith("error")]
    assert error.startswith("error  all: files that cannot be used: 2, such as test/hole/g-0.png:")
    assert "overlay" not in "".join(told)  # there is nothing to copy yet


def test_what_was_fetched_and_changed_since_fails(toy: Path, check: Check) -> None:
    archive = fetch(toy)
    write_zip(archive, dict(list(IMAGES.items())[1:]))
    status, told = check()
    assert status == 1
    assert "was changed" in told[0]
    assert "train_normal: expected 5, found 4" in told[1]
    write(archive, {"files": [{"name": "toy.zip", "sha256": sha256(archive)}]})
    status, told = check()
    assert told[1].startswith(f"error  toy.zip has sha256 {sha256(archive)}, not {sha256(toy)}")
    write(archive, {"files": [{"name": "mine.zip", "sha256": sha256(archive)}]})
    assert "note   mine.zip is not the card's: a source of your own" in check()[1]


def test_what_cannot_be_checked_is_said_in_one_sentence(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, words, table = (tmp_path / name for name in ("cut.zip", "words.txt", "list.csv"))
    damaged.write_bytes(toy.read_bytes()[:-30])
    words.write_text("no archive")
    table.write_text("path,label\na.png,normal\n")
    own = make_card(layout={"image": PATH}, counts={"all": None})
    own = own.model_copy(update={"name": "own"})
    (DATASET_CARDS / "own.yaml").write_text(own.model_dump_json())
    for arguments, told in (
        (["toy"], 'snakemake --cores 1 data/raw/toy.zip --config \'datasets=[{"name": "toy"}]\''),
        (["tyo"], "Did you mean 'toy'?"),
        (["toy", "--edition", "64"], "has no edition '64'"),
        (["toy", "--source", str(damaged)], "is no readable zip"),
        (["toy", "--source", "nowhere"], "--source: nowhere does not exist: name a folder"),
        (["toy", "--source", str(words)], "words.txt: the file is neither a zip nor a tar"),
        (["own", "--source", str(table)], "list.csv is one file: name the folder that it is in"),
    ):
        assert main(["datasets", "check", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("aeflow: ")
        assert told in error
        assert "by hand" not in error  # which is for what is published


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder below one with the cards of the repository."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


def write_own(folder: Path) -> Path:
    for name in ("train/good/a", "train/good/b", "train/good/c", "test/good/d", "test/Löcher/e"):
        write_bytes(folder / f"{name}.png", png(name[-1]))
    return folder


@pytest.mark.parametrize(
    "name", ["con", "x.dvc", "-rf", "my screws ä", "日本", "n" * 90, "a.b.c", "x.", "screws 1.2"]
)
def test_the_overlay_that_is_printed_is_read(
    own: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(write_own(own / name))
    assert main(["datasets", "check", "folder_mvtec", "--source", source]) == 0
    told = capsys.readouterr().out
    overlay = told.partition("overlay:\n\n")[2].rpartition("folder_mvtec: passed")[0]
    [entry] = yaml.safe_load(overlay)["datasets"]
    assert validate(DatasetEntry, entry, "printed").source == source


def test_a_mask_that_does_not_fit_its_image_is_an_error(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(own)
    masks = {"fits": np.zeros((8, 8), np.uint8), "smaller": np.zeros((8, 9), np.uint8)}
    for name, mask in masks.items():
        write_bytes(own / f"test/dent/{name}.png", png(name[0]))
        write_bytes(own / f"ground_truth/dent/{name}_mask.png", encode(mask))
    assert main(["datasets", "check", "folder_mvtec", "--source", str(own)]) == 1
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "the mask ground_truth/dent/smaller_mask.png cannot be used: " in errors[0]


def test_a_damaged_tar_is_called_as_it_is(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own.with_suffix(".tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    assert main(["datasets", "check", "folder_mvtec", "--source", "own.tar.gz"]) == 1
    assert capsys.readouterr().err.startswith("aeflow: own.tar.gz is no readable tar (")


def test_no_command_is_printed_that_cannot_work(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "check", "folder_two"]) == 1
    assert capsys.readouterr().err == (
        "aeflow: The card folder_two is for your own images: say where, by --source.\n"
    )


def test_the_labels_are_counted_and_shown_on_any_terminal(own: Path) -> None:
    write_own(own)
    command = [*AEFLOW, "check", "folder_mvtec", "--source", "own"]
    for encoding, shown in (
        ("ascii", "L\\xf6cher (1), good (4)"),
        ("utf-8", "Löcher (1), good (4)"),
    ):
        where = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
        done = subprocess.run(
            command, cwd=own.parent, env={**os.environ, **where}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"labels: {shown}" in done.stdout.decode(encoding)


def test_what_was_noted_of_a_source_is_told(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_own(own / "one")
    write_own(own / "other")
    write_bytes(own / "groups.csv", "file,group\nä.png,1\n".encode("latin-1"))
    for name in own.rglob("*.png"):
        row = f"{name.relative_to(own)},{name.parts[-4]}{name.stem}\n"
        with (own / "groups.csv").open("ab") as table:
            table.write(row.encode("latin-1"))
    assert main(["datasets", "check", "folder_mvtec", "--source", str(own)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    for words in ("is no UTF-8 text", "rows that name no image: 1", "images of 2 folders"):
        assert sum(words in note for note in notes) == 1


def test_a_reader_that_has_seen_enough_is_no_error_to_print() -> None:
    """`aeflow datasets | head -1`: the pipe is closed before anything is written."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(AEFLOW, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("card", "files"),
    [
        ("folder_mvtec", ["train/good/{n}.png", "test/good/a.png", "test/dent/b.png"]),
        ("folder_two", ["normal/{n}.png", "anomalous/b.png"]),
        ("folder_list", ["img/{n}.png"]),
    ],
)
def test_a_study_of_own_images_is_written_for_each_layout(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: str,
    files: list[str],
) -> None:
    monkeypatch.chdir(ROOT)
    # YAML would take 2024 for a number; results/logs is not a study's.
    folder, known = {"folder_two": ("2024", "2024"), "folder_list": ("Logs", "mine")}.get(
        card, ("my parts", "my_parts")
    )
    source, target = tmp_path / folder, tmp_path / "mine.yaml"
    deep = np.random.default_rng(0).integers(900, 2000, (40, 40), dtype=np.uint16)
    names = [name.format(n=n) for name in files for n in range(12 if "{n}" in name else 1)]
    for number, name in enumerate(names):
        write_bytes(source / name, encode(deep + number))
    if card == "folder_list":
        lines = [f"{name},normal\n" for name in names]
        (source / "list.csv").write_text("path,label\n" + "".join(lines))
    assert main(["init", str(source), "--out", str(target)]) == 0
    said = capsys.readouterr().out
    assert f"This looks like {card}" in said
    study = load_study([target])
    recommended = load_study([Path("config/studies/recommended.yaml")])
    (entry,) = study.datasets
    assert (entry.card, Path(entry.source or "")) == (card, source)
    assert study.study == entry.name == known
    assert (study.variants, study.encoder) == (recommended.variants, recommended.encoder)
    assert study.data.intensity == "percentiles"
    assert study.training.threads == min(len(os.sched_getaffinity(0)), 8)
    first, _, run, *_ = target.read_text().splitlines()[:1], *said.splitlines()[-3:]
    schema = first[0].partition("$schema=")[2]
    assert (target.parent / schema).resolve() == ROOT / "config/config.schema.json"
    assert shlex.split(run.partition("#")[0])[-1] == str(target)
    zipped = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", source))
    assert main(["init", str(zipped), "--out", str(tmp_path / "from zip.yaml")]) == 0
    (entry,) = load_study([tmp_path / "from zip.yaml"]).datasets
    assert (entry.name, entry.card, entry.source) == ("zipped", card, str(zipped))


def test_a_study_that_cannot_be_written_is_told_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    there = tmp_path / "there.yaml"
    there.write_text("mine")
    for out, told in (
        (there, "there.yaml is there already"),
        (there / "mine.yaml", "there is a file where a folder is needed"),
        (Path("/proc/mine.yaml"), "Cannot write /proc"),
        (Path("/sys/mine.yaml"), "Cannot write /sys"),
    ):
        assert main(["init", str(tmp_path), "--out", str(out)]) == 1
        seen = capsys.readouterr()
        assert told in seen.err
        assert seen.out == ""
    assert there.read_text() == "mine"
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(tmp_path)]) == 1
    assert "go to the folder of the repository" in capsys.readouterr().err


def test_images_in_no_known_layout_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    write_bytes(tmp_path / "photos/one/a.png", png("a"))
    assert main(["init", str(tmp_path / "photos")]) == 1
    said = capsys.readouterr().err
    assert "one/a.png" in said
    assert all(name in said for name in ("folder_mvtec", "folder_two", "folder_list"))
    assert main(["init", str(tmp_path / "gone")]) == 1
