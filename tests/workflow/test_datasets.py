"""Every dataset card, from a server to judged scores, in one study (training: test_reruns.py)."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.workflow.conftest import Repository, copy_repository, once
from tests.workflow.small_archives import SMALL, Small

IN_THE_REPOSITORY = {"demo_textures"}  # see test_demo.py
TARGET = "results/datasets/tables/results.csv"  # all but figures and report
STUDY: dict[str, Any] = {
    "study": "datasets",
    "data": {"image_size": 32, "val_fraction": 0.2},
    "variants": [{"name": "gradient", "method": "gradient"}],
    "ablations": [],
    "seeds": [0],
    "evaluation": {"bootstrap_replicates": 0},
}


ASKED = "asked.txt"  # what was asked of the server, a request per line


@contextmanager
def serving(folder: Path, asked: Path) -> Iterator[str]:
    """Serve a folder over HTTP on this machine at the URL, and note what is asked for."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            with asked.open("a") as notes:
                notes.write(f"{self.command} {self.path}\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def small() -> dict[str, Small]:
    return {name: make() for name, make in SMALL.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Small]) -> Repository:
    """The study of all datasets, run from nothing; each card differs from ours in the facts of
    its files alone."""

    def run(folder: Path) -> None:
        copy_repository(folder)
        served = folder / "served"
        served.mkdir()
        with serving(served, folder / ASKED) as url:
            run_all(Repository(folder), served, url, small)

    return Repository(once(tmp_path_factory, "datasets", run))


def run_all(repository: Repository, served: Path, url: str, small: dict[str, Small]) -> None:
    entries: list[dict[str, Any]] = []
    for name, archive in small.items():
        for file, content in archive.files.items():
            (served / file).write_bytes(content)
        entry: dict[str, Any] = {"name": named(name), "categories": archive.categories}
        if name == "pneumoniamnist":
            entry["edition"] = "64"
        if name.startswith("folder_"):
            [file] = archive.files
            entry |= {"card": name, "source": f"{url}/{file}"}
        entries.append(entry)
        card = repository.folder / f"config/datasets/{name}.yaml"
        card.write_text(yaml.safe_dump(with_facts_of(yaml.safe_load(card.read_text()), archive)))
    disjoint = {"name": "oct2017_disjoint", "card": "oct2017", "split": "patient_disjoint"}
    tiles = next(entry for entry in entries if entry["name"] == "my_folder_mvtec")
    tiles["source"] = str(unpacked(served / "tiles.zip", repository.folder / "own"))
    study = STUDY | {"datasets": [*entries, disjoint]}
    (repository.folder / "datasets.yaml").write_text(yaml.safe_dump(study))
    done = subprocess.run(
        repository.command("--", TARGET, overlay="datasets.yaml"),
        cwd=repository.folder,
        env=repository.environment() | {"AEFLOW_MIRROR": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-8000:]


def with_facts_of(card: dict[str, Any], archive: Small) -> dict[str, Any]:
    """Return a card with sizes, checksums and counts of the small archive."""
    listed = list(card.get("files", []))
    listed += [file for edition in card.get("editions", {}).values() for file in edition["files"]]
    for file in listed:
        content = archive.files.get(file["name"])
        if content is not None:
            file |= {key: len(content) for key in ("size_bytes",) if key in file}
            file |= {
                key: hashlib.new(key, content).hexdigest()
                for key in ("sha256", "md5")
                if key in file
            }
    assert set(archive.counts) <= set(card["counts"])
    for category, counts in archive.counts.items():
        known = card["counts"][category]
        facts = {key: counts[key] for key in known} if known is not None else None
        card["counts"][category] = facts
    return card


def named(card: str) -> str:
    """Return the name of a card's dataset in the study: users call their images as they like."""
    return f"my_{card}" if card.startswith("folder_") else card


def unpacked(archive: Path, folder: Path) -> Path:
    with ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def prepared(repository: Repository, dataset: str, category: str = "all") -> dict[str, Any]:
    path = repository.folder / f"data/receipts/prepared/{dataset}/{category}.json"
    content: dict[str, Any] = json.loads(path.read_text())["facts"]
    return content


def index(repository: Repository, dataset: str, category: str = "all") -> pd.DataFrame:
    path = repository.folder / f"data/prepared/{dataset}/{category}/index.csv"
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def test_every_card_has_a_small_archive() -> None:
    cards = {path.stem for path in Path("config/datasets").glob("*.yaml")}
    assert cards - IN_THE_REPOSITORY == set(SMALL)


def test_every_dataset_was_fetched_prepared_and_judged(
    finished: Repository, small: dict[str, Small]
) -> None:
    results = pd.read_csv(finished.results("datasets") / "tables/results.csv")
    assert set(results["dataset"]) == {*map(named, small), "oct2017_disjoint"}
    assert results["image_auroc"].between(0, 1).all()
    assert (results["threshold_rule"].notna()).all()
    masked = {
        path.parts[-3]
        for path in finished.folder.glob("data/prepared/*/*/masks.npy")
        if len(np.load(path, mmap_mode="r", allow_pickle=False))
    }
    tiles = {"magnetic_tile", "my_folder_mvtec"}
    assert masked == tiles | {"brats2021", "btad", "mvtec_ad", "my_folder_list"}


def test_the_images_found_are_those_that_were_packed(
    finished: Repository, small: dict[str, Small]
) -> None:
    for name, archive in small.items():
        category = (archive.categories or ["all"])[0]
        counts = archive.counts[category]
        if counts is not None:
            found = prepared(finished, named(name), category)["found"]
            assert {key: found.get(key, 0) for key in counts} == counts, name


def test_both_protocols_of_oct_come_from_one_download(finished: Repository) -> None:
    asked = (finished.folder / ASKED).read_text().splitlines()
    assert asked.count("GET /OCT2017.tar.gz") == 1
    assert not (finished.folder / "data/raw/oct2017_disjoint.zip").exists()
    official, disjoint = (prepared(finished, name) for name in ("oct2017", "oct2017_disjoint"))
    assert (official["shared_groups"], official["dropped_groups"]) == (6, 0)
    assert (disjoint["shared_groups"], disjoint["dropped_groups"]) == (0, 6)
    for key in ("test_normal", "test_anomalous"):
        assert official["counts"][key] == disjoint["counts"][key] == 3
    for name in ("oct2017", "oct2017_disjoint"):
        rows = index(finished, name)
        patients = rows.groupby("split")["group"].agg(set)
        assert not patients["validation"] & (patients["train"] | patients["test"])
        shared = patients["train"] & patients["test"]
        assert shared == ({"1000003", "1000004", "1000005"} if name == "oct2017" else set())


def test_medmnist_keeps_its_pixels_and_its_validation(
    finished: Repository, small: dict[str, Small]
) -> None:
    with ZipFile(finished.folder / "data/raw/dermamnist.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("validation/")]
        path = finished.folder / "dermamnist.npz"
        path.write_bytes(small["dermamnist"].files["dermamnist.npz"])
        images = np.load(path, allow_pickle=False)["val_images"]
        assert len(names) == len(images)
        for name in names:
            with archive.open(name) as file:
                pixels = np.asarray(Image.open(file))
            np.testing.assert_array_equal(pixels, images[int(name[-10:-4])])
    rows = index(finished, "dermamnist")
    assert set(rows.loc[rows["split"] == "validation", "source"]) == set(names)
    counts = prepared(finished, "pneumoniamnist")["counts"]
    assert counts == {
        "train": 16,
        "validation_normal": 4,
        "validation_anomalous": 2,
        "test_normal": 3,
        "test_anomalous": 2,
    }
    assert (finished.folder / "data/raw/pneumoniamnist-64.zip").is_file()


def test_brats_cases_are_on_one_side_and_slices_as_the_card_says(finished: Repository) -> None:
    rows = index(finished, "brats2021")
    test = set(rows.loc[rows["split"] == "test", "group"])
    assert len(test) == 2  # a fifth of ten cases
    assert not test & set(rows.loc[rows["split"] != "test", "group"])
    found: dict[str, set[str]] = {}
    with ZipFile(finished.folder / "data/raw/brats2021.zip") as archive:
        for name in archive.namelist():
            found.setdefault(name.rpartition("/")[0], set()).add(name[-7:-4])
    assert found == {
        "slices/normal": {"005", "010"},  # 000 and 030 hold no brain
        "slices/tumour": {"020", "025"},  # the tumour of 015 is too small
        "masks": {"020", "025"},
    }


def test_a_users_list_decides(finished: Repository) -> None:
    rows = index(finished, "my_folder_list").set_index("source")
    assert rows.loc["b/1.jpg", ["split", "gt_label", "defect", "group"]].tolist() == [
        "test",
        "1",
        "dent",
        "d1",
    ]
    assert "b/0.jpg" not in rows.index, "an anomalous training image where validation is given"
    assert set(rows.loc[rows["split"] == "validation"].index) == {
        f"a/{n}.tif" for n in (12, 13, 14)
    }
    assert "b/unlisted.png" not in rows.index


def test_a_drawn_test_and_its_shares(finished: Repository) -> None:
    manifest = prepared(finished, "my_folder_two")
    assert manifest["drawn_test"] == 10
    assert manifest["counts"] == {
        "train": 8,
        "validation_normal": 3,
        "validation_anomalous": 11,
        "test_normal": 5,
        "test_anomalous": 5,
    }


def test_tiles_of_a_folder_stay_together(finished: Repository) -> None:
    for name in ("magnetic_tile", "my_folder_mvtec"):
        rows = index(finished, name)
        assert rows.groupby("group")["split"].nunique().max() == 1
        masks = np.load(
            finished.folder / f"data/prepared/{name}/all/masks.npy", allow_pickle=False
        )
        assert (masks[:, 0, 0] != 255).sum() == 3
