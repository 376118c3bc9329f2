"""A source of one's own: what an edit of it makes a run plan, by what rules record of it."""

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from aeflow.cli import main
from aeflow.core.errors import ConfigError, DataError
from aeflow.data.local_sources import reading, see_sources
from aeflow.study import job as runner
from aeflow.study.cards import load_dataset_card
from aeflow.study.cells import asked, path
from aeflow.study.study import Study
from scripts.fetch_data import fetch_data
from scripts.prepare_images import prepare_images
from scripts.prepare_masks import prepare_masks
from tests.unit.conftest import reading_here
from tests.unit.data.processes import ROOT
from tests.unit.data.toy_dataset import encode, noise

pytestmark = pytest.mark.usefixtures("read_here")
CARD = load_dataset_card("folder_mvtec", ROOT / "config/datasets")
STEPS = {"prepare_images": prepare_images, "prepare_masks": prepare_masks}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study and its source, run. Not to be changed."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch, reading_here():
        patch.chdir(folder)
        Path("config").symlink_to(ROOT / "config")
        make_screws()
        run(see_sources(study()))
    return folder


@pytest.fixture
def screws(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the source, beside what was made of it; the working folder is theirs."""
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("screws")


def draw(place: str, seed: int, *, mask: bool = False) -> None:
    file = Path(place)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(noise(40, 40, 1 if mask else 3, seed), "BMP"))


def make_screws() -> None:
    """A list, its images and masks; all images have the same size and times."""
    names = [f"{n}.bmp" for n in range(10)]
    for n, name in enumerate(names):
        draw(f"screws/{name}", n)
    for n in (8, 9):
        draw(f"screws/mask{n}.bmp", n, mask=True)
    rows = [f"{name},{'normal' if n < 8 else 'dent'}" for n, name in enumerate(names)]
    splits = [f"{row},{'train' if n < 6 else 'test'}" for n, row in enumerate(rows)]
    masks = [f"{row},{f'mask{n}.bmp' if n == 8 else ''}" for n, row in enumerate(splits)]
    write_list(["path,label,split,mask", *masks])
    for file in Path("screws").iterdir():
        os.utime(file, ns=(10**18, 10**18))


def write_list(rows: list[str]) -> None:
    Path("screws/list.csv").write_text("\n".join(rows))


def rows() -> list[str]:
    return Path("screws/list.csv").read_text().splitlines()


def study(*entries: dict[str, Any]) -> Study:
    given = entries or ({},)
    own = {"name": "own", "card": "folder_list", "source": "screws"}
    return Study.model_validate(
        {"study": "s", "seeds": [0], "datasets": [own | entry for entry in given]}
        | {"data": {"image_size": 32}, "variants": [{"name": "g", "method": "gradient"}]}
    )


def run(seen: Study, dataset: str = "own") -> None:
    """Do what the rules of a dataset do."""
    file = path(seen, "study", {})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(seen.model_dump_json())
    archive = seen.dataset(dataset).archive
    if not seen.dataset(dataset).in_place:
        runner._run(fetch_data, {"study": str(file), "archive": archive})
    for step in STEPS.values():
        runner._run(step, {"study": str(file), "dataset": dataset, "category": "all"})


def recorded(seen: Study, dataset: str = "own") -> dict[str, Any]:
    """Return what Snakemake would compare of each rule."""
    words = {"dataset": dataset, "category": "all"}
    found = {step: asked(seen, step, words).as_json() for step in STEPS}
    if not seen.dataset(dataset).in_place:
        given = {"archive": seen.dataset(dataset).archive}
        found["fetch_data"] = asked(seen, "fetch_data", given).as_json()
    return found


def differing(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {step for step in before if before[step] != now[step]}


def swap(one: str, other: str) -> None:
    Path(one).rename("aside")
    Path(other).rename(one)
    Path("aside").rename(other)


def retyped() -> None:
    """Write the list again: semicolons, another order, a column more."""
    header, *lines = (row.replace(",", ";") for row in rows())
    write_list([f"{header};remark", *(f"{line};fine" for line in reversed(lines))])


def copied_with_times() -> None:
    times = Path("screws/0.bmp").stat()
    draw("screws/0.bmp", 77)
    os.utime("screws/0.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))


IMAGES, MASKS = {"prepare_images"}, {"prepare_masks"}
EDITS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "two images of one size and time are swapped": (
        lambda: swap("screws/0.bmp", "screws/7.bmp"),
        IMAGES,
    ),
    "an image is replaced by one of its size and time": (copied_with_times, IMAGES),
    "an image is put beside that the list does not name": (
        lambda: draw("screws/0.BMP", 50),
        set(),
    ),
    "the list is typed again": (retyped, set()),
    "a mask is named": (lambda: write_list([*rows()[:-1], rows()[-1] + "mask9.bmp"]), MASKS),
    "a mask is named no more": (
        lambda: write_list([row.replace("mask8.bmp", "") for row in rows()]),
        MASKS,
    ),
    "a label is another one": (
        lambda: write_list([row.replace("9.bmp,dent", "9.bmp,hole") for row in rows()]),
        IMAGES,
    ),
    "a split is another one": (
        lambda: write_list([row.replace("normal,test", "normal,train") for row in rows()]),
        IMAGES,
    ),
    "groups are told": (
        lambda: write_list([rows()[0] + ",group", *(f"{row},p{row[0]}" for row in rows()[1:])]),
        IMAGES,
    ),
    "a mask is edited": (lambda: draw("screws/mask8.bmp", 99, mask=True), MASKS),
    "everything is touched": (lambda: [file.touch() for file in Path("screws").iterdir()], set()),
    "everything is a copy": (
        lambda: (shutil.copytree("screws", "new"), swap("screws", "new")),
        set(),
    ),
    "a mode is another one": (lambda: Path("screws/0.bmp").chmod(0o400), set()),
    "a file is put beside": (lambda: Path("screws/Thumbs.db").write_bytes(b"x"), set()),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_plans_what_depends_on_it(screws: Path, edit: str) -> None:
    before = recorded(see_sources(study()))
    change, planned = EDITS[edit]
    change()
    for _ in range(2):  # the answer is kept
        assert differing(before, recorded(see_sources(study()))) == planned


def test_two_datasets_of_one_folder_are_settled_each_for_itself(screws: Path) -> None:
    """One was prepared before the folder was touched, the other one after that."""
    first = recorded(see_sources(study()))
    for file in screws.iterdir():
        file.touch()
    assert differing(first, recorded(see_sources(study()))) == set()
    both = study({}, {"name": "again"})
    run(see_sources(both), "again")
    second = recorded(see_sources(both), "again")
    assert differing(first, recorded(see_sources(both))) == set()
    run(see_sources(both), "again")
    assert differing(second, recorded(see_sources(both), "again")) == set()


def packed(name: str) -> None:
    with tarfile.open(name, "w:gz") as archive:
        archive.add("screws", "screws")


def test_a_tar_is_known_by_its_bytes(screws: Path) -> None:
    packed("screws.tar.gz")
    given = {"source": "screws.tar.gz"}
    seen = see_sources(study(given))
    run(seen)
    before = recorded(seen)
    os.utime("screws.tar.gz", (1, 1))
    shutil.copy("screws.tar.gz", "moved.tgz")
    for source in ("screws.tar.gz", "moved.tgz"):
        now = recorded(see_sources(study({"source": source})))
        assert differing(before, now) == set(), source
    draw("screws/0.bmp", 50)
    packed("screws.tar.gz")
    assert differing(before, recorded(see_sources(study(given)))) == {"fetch_data"}


PLACES: dict[str, Callable[[], str]] = {
    "a name longer than any": lambda: "a" * 300,
    "a link to itself": lambda: str(link("loop", "loop")),
    "a link to nothing": lambda: str(link("gone", "nowhere")),
    "below a file": lambda: "screws/list.csv/train",
    "an empty folder": lambda: str(made("empty")),
    "a folder of hidden files": lambda: str(made("hidden", ".DS_Store")),
    "an image": lambda: "screws/0.bmp",
    "a folder of one link": lambda: str(link("folder/0.bmp", "../screws/0.bmp").parent),
    "another's home": lambda: "~/nothing of that name",
}


def link(name: str, target: str) -> Path:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).symlink_to(target)
    return Path(name)


def made(name: str, *files: str) -> Path:
    Path(name).mkdir()
    for file in files:
        Path(name, file).touch()
    return Path(name)


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_none_is_a_sentence_with_its_name(
    screws: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("data")  # nothing was ever read
    source = PLACES[place]()
    with pytest.raises(ConfigError) as caught:
        see_sources(study({"source": source}))
    assert str(caught.value).startswith(f"datasets[own].source: {source}")
    assert main(["datasets", "check", "folder_list", "--source", source]) == 1
    said = "".join(capsys.readouterr())
    assert source in said
    for word in ("Get it by hand", "AEFLOW_MIRROR", "Errno", "To use it"):
        assert word not in said


@pytest.fixture
def closed() -> Iterator[Path]:
    """A working folder with sources that nobody may read; root is somebody else meanwhile."""
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder, who = Path(place), os.geteuid()
        patch.chdir(folder)
        folder.chmod(0o755)
        for name in ("one.bmp", "shut/train/good/0.bmp", "part/train/good/0.bmp"):
            draw(name, 0)
        shutil.make_archive("boxed", "zip", "part")
        modes = {"shut": 0, "part/train": 0, "boxed.zip": 0, "one.bmp": 0}
        for name, mode in modes.items():
            Path(name).chmod(mode)
        if who == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(who)
        for name in modes:
            Path(name).chmod(0o755)


@pytest.mark.parametrize("source", ["shut", "shut/train", "part", "boxed.zip", "one.bmp"])
def test_a_source_that_may_not_be_read_is_a_sentence(
    screws: Path, closed: Path, source: str
) -> None:
    asked_for = study({"source": str(closed / source), "card": "folder_mvtec"})
    asked_for._cards["own"] = CARD  # the repository may be closed, too
    with pytest.raises(
        ConfigError, match=r"datasets\[own\].*cannot be read: Permission denied\.$"
    ):
        see_sources(asked_for)


def test_a_folder_that_changes_while_it_is_read_is_told(screws: Path) -> None:
    with (
        pytest.raises(DataError, match="screws was changed while it was read"),
        reading(screws, None),
    ):
        swap("screws/0.bmp", "screws/1.bmp")
    with reading(None, screws / "0.bmp") as place:
        assert place == screws / "0.bmp"
