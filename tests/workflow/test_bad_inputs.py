"""Odd images, a full disk and a folder that cannot be written, as a user meets them."""

import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.workflow.conftest import Repository, copy_repository

SIDE = 32
ODD = "toy/train/good/odd_"
CARD = {
    "name": "toy",
    "title": "Toy",
    "licence": "none",
    "citation": "none",
    "files": [{"name": "toy.zip"}],
    "layout": {
        "image": r"toy/(?P<split>train|test)/(?P<defect>good|bad)/(?P<stem>[^/]+)\.\w+",
        "normal": "good",
    },
    "counts": {"all": {"train_normal": 20, "test_normal": 2, "test_anomalous": 2}},
}
OVERLAY = {
    "study": "toy",
    "datasets": [{"name": "toy", "source": "user/toy_images"}],
    "data": {"image_size": SIDE, "val_fraction": 0.2},
    "variants": [{"name": "gradient", "method": "gradient"}],
    "ablations": [],
    "seeds": [0],
}
PREPARED = "data/receipts/prepared/toy/all.json"
SCORES = "results/toy/scores/toy/all/gradient/seed0.csv"
LENIENT = "data={max_unusable_share: 0.2}"
# One of each kind: of the others tests/unit/data/test_decode.py.
USED, UNUSED, WHY = "palette.png", "cut.jpg", "cannot be decoded"
COLOUR = (10, 200, 30)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def odd_images() -> dict[str, bytes]:
    palette = Image.new("P", (40, 48), 1)
    palette.putpalette([0, 0, 0, *COLOUR])
    return {USED: encoded(palette, "PNG"), UNUSED: encoded(noise(99), "JPEG")[:1000]}


@pytest.fixture
def toy(tmp_path: Path) -> Repository:
    """A copy of the repository with a dataset of the user's own: a folder and a card."""
    folder = copy_repository(tmp_path)
    (folder / "config/datasets/toy.yaml").write_text(yaml.safe_dump(CARD))
    (folder / "toy.yaml").write_text(yaml.safe_dump(OVERLAY))
    files = {f"train/good/plain_{n}.png": encoded(noise(n), "PNG") for n in range(18)}
    files |= {f"test/good/{n}.png": encoded(noise(20 + n), "PNG") for n in range(2)}
    files |= {f"test/bad/{n}.png": encoded(noise(30 + n), "PNG") for n in range(2)}
    files |= {f"train/good/odd_{name}": content for name, content in odd_images().items()}
    for name, content in files.items():
        path = folder / "user/toy_images/toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Repository(folder)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def sentences(stderr: str, rule: str) -> list[str]:
    """Return why jobs of a rule failed."""
    return [line for line in stderr.splitlines() if line.startswith(f"Failed: {rule} of ")]


def run_mounted(toy: Repository, commands: list[str]) -> str:
    """Run shell commands where mounts are allowed and end with them; return all they print."""
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    allowed = subprocess.run([*shell, "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"cannot mount here: {allowed.stderr}")
    done = subprocess.run(
        [*shell, "\n".join(commands)],
        cwd=toy.folder,
        env=toy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def command(toy: Repository, *arguments: str) -> str:
    return shlex.join(toy.command("--config", LENIENT, *arguments, overlay="toy.yaml"))


def test_an_odd_image_is_used_or_listed(toy: Repository) -> None:
    refused = toy.snakemake(PREPARED, overlay="toy.yaml", check=False)
    assert refused.returncode == 1
    (sentence,) = sentences(refused.stderr, "prepare_images")
    assert "toy/all: 1 of 24 images are unusable" in sentence
    assert "allow more with data.max_unusable_share (now 0.0)" in sentence
    assert f"{ODD}{UNUSED}: {WHY}" in sentence
    assert USED not in sentence
    assert files_in(toy.folder / "data/prepared") == []
    assert not (toy.folder / PREPARED).exists()

    toy.snakemake(PREPARED, "--config", LENIENT, overlay="toy.yaml")
    manifest = json.loads((toy.folder / PREPARED).read_text())["facts"]
    [[source, reason]] = manifest["unusable"].items()
    assert source == ODD + UNUSED
    assert reason.startswith(WHY)
    assert (
        f"{source}: {WHY}" in (toy.folder / "results/logs/prepare_images/toy/all.log").read_text()
    )
    assert sum(manifest["counts"].values()) == 23
    prepared = toy.folder / "data/prepared/toy/all"
    assert files_in(prepared) == ["images.npy", "index.csv"]
    images = np.load(prepared / "images.npy", allow_pickle=False)
    sources = list(pd.read_csv(prepared / "index.csv")["source"])
    assert images.shape == (23, SIDE, SIDE, 3)
    assert (images[sources.index(ODD + USED)] == COLOUR).all()


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("results", "results/toy"),
        ("results/toy/scores/toy/all", "results/toy/scores/toy/all/gradient"),
    ],
)
def test_results_that_cannot_be_written(toy: Repository, place: str, named: str) -> None:
    """A read-only mount binds root too, whom permissions do not."""
    (toy.folder / place).mkdir(parents=True, exist_ok=True)
    mounts = [f"mount --bind {place} {place}", f"mount -o remount,ro,bind {place}"]
    told = run_mounted(toy, [*mounts, command(toy, "--", SCORES)])
    assert told.splitlines()[-1] == (
        f"Cannot write {named}: the file system is read-only: choose a folder that can be written."
    )
    assert "Traceback" not in told
    assert not (toy.folder / "data").exists(), "no job has run"


def test_a_file_where_results_should_go(toy: Repository) -> None:
    place = toy.folder / "results/toy/scores"
    place.parent.mkdir()
    place.touch()
    refused = toy.snakemake("--config", LENIENT, "--", SCORES, overlay="toy.yaml", check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "Cannot write results/toy/scores: there is a file where a folder is needed: move it away."
    )
    assert "Traceback" not in refused.stderr
    assert toy.plan("--config", LENIENT, "--", SCORES, overlay="toy.yaml")["score_images"] == 1


def test_a_full_disk_and_another_run_when_there_is_space(toy: Repository) -> None:
    """The whole copy lies on a file system of 20 MiB with room for less than the images."""
    (toy.folder / "toy.yaml").write_text(
        yaml.safe_dump({**OVERLAY, "data": {"image_size": 256, "val_fraction": 0.2}})
    )
    fill = "head -c $(($(df -k --output=avail . | tail -n 1) - 700))k /dev/zero > filler"
    commands = ["mkdir disk", "mount -t tmpfs -o size=20m tmpfs disk"]
    commands += ["cp -r $(ls | grep -v disk) disk", "cd disk", "export PYTHONPATH=$PWD", fill]
    commands += [command(toy, "--", SCORES), "echo FULL", "find data results -type f"]
    commands += ["rm filler", "echo FREED", command(toy, "--", SCORES), f"ls {SCORES}"]
    full, left, freed = re.split("^(?:FULL|FREED)$", run_mounted(toy, commands), flags=re.M)
    (sentence,) = sentences(full, "prepare_images")
    assert sentence == (
        "Failed: prepare_images of toy all: Cannot write data/prepared/toy/all/images.npy: the "
        "disk is full: free some space and run the same command again."
    )
    assert "prepared" not in left.replace("results/logs/prepare_images", "")
    assert freed.splitlines()[-1] == SCORES
