"""What the study in config/config.yaml costs, by a rehearsal at its real sizes.

A clone of this repository runs its own rules on generated archives with the counts and the image
sizes of chest X-ray and of one category of BTAD, with random weights of the paper's encoder and
few epochs. Memory and time of each job are measured; the whole study's follow from the counts in
the cards of its datasets. On a GPU time is that of a clock, elsewhere that of the CPU.
"""

import argparse
import io
import os
import re
import subprocess
import sys
from collections import defaultdict
from contextlib import chdir
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from aeflow.core.files import atomic_path, sha256_file
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import load_yaml
from aeflow.study.cards import DATASET_CARDS, ENCODER_CARDS, load_encoder_card
from aeflow.study.cells import Given, jobs_of, path
from aeflow.study.defaults import load_study
from aeflow.study.runs import benchmark
from aeflow.study.study import Study

ROOT = Path(__file__).resolve().parents[1]
ENCODER = "wide_resnet50_2"
STUDY = "rehearsal"
# The values that make a job dear or change its sizes; the others cost what their variant does.
ABLATIONS: dict[str, list[Any]] = {
    "flow.steps": [1, 12],
    "flow.subnet": ["resnet"],
    "encoder.stages": [2, 4],
    "encoder.finetune": [True],
}
DOWNLOADS = ("fetch_data", "fetch_weights")
# Of a GPU: who extracts or trains has all of it, so that nobody else is in the time.
QUARTERS = {"extract_features": 4, "train_model": 4, "score_images": 1}
CATEGORY = "03"  # of BTAD, the one with most images
NOTES = """\
MiB        the most of one job, and what profiles/slurm asks for
minutes    of the study's longest job of a kind, by what an image took in the rehearsal and the
           counts of its dataset, and what the profile asks for
h          of all its jobs
Time is {time}; a training's is of the study's {epochs} epochs.
Sizes unknown, not counted: {unknown}."""


def main(arguments: list[str] | None = None) -> None:
    """Rehearse, unless that is done, and print a row for each kind of job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the clone and its data: some 20 GB")
    parser.add_argument("--share", type=float, default=1.0, help="of the images, to try it out")
    args = parser.parse_args(arguments)
    folder = args.folder.resolve()
    if not (folder / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    with chdir(folder):
        prepare(args.share)
    # Where the test runs, the environment's programs may not be on the path.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": programs, "PYTHONPATH": str(folder), "AEFLOW_MIRROR": "mirror"}
    command = ["snakemake", "--cores", "all", "--configfile", f"{STUDY}.yaml"]
    if time_of_jobs() == "s":
        needs = [f"{step}:gpu={quarters}" for step, quarters in QUARTERS.items()]
        command += ["--resources", "gpu=4", "--set-resources", *needs]
    subprocess.run(command, cwd=folder, env={**os.environ, **own}, check=True)
    with chdir(folder):
        rows = measured(load_study([Path(f"{STUDY}.yaml")]))
    with chdir(ROOT):
        print(costs(load_study(), rows))


def prepare(share: float) -> None:
    """Write archives, weights and the overlay of the rehearsal, those that are not there yet."""
    Path("mirror").mkdir(exist_ok=True)
    overlay = Path(f"{STUDY}.yaml")
    first = f"# {share} of the images.\n"
    if overlay.exists():
        if not overlay.read_text(encoding="utf-8").startswith(first):
            sys.exit(f"{overlay.resolve()} is of another --share: take another folder.")
        return
    number = counts_of("chest_xray", "all", share)
    write_archive(
        Path("chest_xray.zip"),
        {
            "chest_xray/train/NORMAL/IM-{}-0001.jpeg": number["train_normal"],
            "chest_xray/train/PNEUMONIA/person{}_virus_1.jpeg": number["train_anomalous"],
            "chest_xray/test/NORMAL/IM-9{}-0001.jpeg": number["test_normal"],
            "chest_xray/test/PNEUMONIA/person9{}_virus_1.jpeg": number["test_anomalous"],
        },
        (1400, 1000),
        "L",
    )
    number = counts_of("btad", CATEGORY, share)
    inside = f"BTech_Dataset_transformed/{CATEGORY}"
    write_archive(
        Path("btad.zip"),
        {
            f"{inside}/train/ok/{{}}.bmp": number["train_normal"],
            f"{inside}/test/ok/{{}}.bmp": number["test_normal"],
            f"{inside}/test/ko/{{}}.bmp": number["test_anomalous"],
            f"{inside}/ground_truth/ko/{{}}.png": number["test_anomalous"],
        },
        (600, 600),
        "RGB",
    )
    write_weights()
    study = load_yaml(Path("config/config.yaml"))
    chest = next(each for each in study["datasets"] if each["name"] == "chest_xray")
    shown = {
        "study": STUDY,
        "datasets": [
            chest | {"source": "chest_xray.zip"},
            {"name": "btad", "source": "btad.zip", "categories": [CATEGORY]},
        ],
        "variants": [each for each in study["variants"] if each.get("method") != "fusion"],
        "ablations": [
            {"name": each["name"], "of": "aeflow", "key": each["key"], "datasets": ["btad"]}
            | {"values": ABLATIONS[each["key"]]}
            for each in study["ablations"]
            if each["key"] in ABLATIONS
        ],
        "training": {"epochs": 3 if time_of_jobs() == "s" else 1},  # a GPU's first is slow
        "seeds": [0],
    }
    with atomic_path(overlay) as part:
        part.write_text(first + yaml.safe_dump(shown, sort_keys=False), encoding="utf-8")


def counts_of(dataset: str, category: str, share: float) -> dict[str, int]:
    """Return a share of the images that a card counts, which it then counts instead.

    A dozen of each kind at least.
    """
    place = DATASET_CARDS / f"{dataset}.yaml"
    card = load_yaml(place)
    known = card["counts"][category]
    counts = {kind: max(12, round(share * number)) for kind, number in known.items()}
    if counts != known:
        card["counts"][category] = counts
        place.write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return counts


def write_archive(path: Path, members: dict[str, int], size: tuple[int, int], mode: str) -> None:
    """Write a zip of so many images of each name, from a few pictures of smooth noise."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    files = defaultdict[str, list[bytes]](list)
    for ending in {name.rpartition(".")[2] for name in members}:
        kind = {"jpeg": "JPEG", "bmp": "BMP", "png": "PNG"}[ending]
        for _ in range(16):
            coarse = rng.integers(0, 256, (60, 60, 3), np.uint8)
            picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
            file = io.BytesIO()
            mask = picture.convert("L").point(lambda value: 255 * (value > 200))
            (mask if ending == "png" else picture).save(file, kind)
            files[ending].append(file.getvalue())
    with atomic_path(path) as part, ZipFile(part, "w", ZIP_STORED) as archive:
        for name, count in members.items():
            some = files[name.rpartition(".")[2]]
            for place in range(count):
                own = name.format(f"{place:04d}")  # after the end, so that no two files are one
                archive.writestr(own, some[place % 16] + own.encode())


def write_weights() -> None:
    """Write random weights where the encoder's are looked for, and their checksum in its card."""
    import torch
    import torchvision

    card = load_encoder_card(ENCODER)
    torch.manual_seed(0)
    path = Path("mirror", card.weights.name)
    with atomic_path(path) as part:
        torch.save(torchvision.models.get_model(card.architecture).state_dict(), part)
    place = ENCODER_CARDS / f"{ENCODER}.yaml"
    text, times = re.subn(r"(sha256: )\w+", rf"\g<1>{sha256_file(path)}", place.read_text())
    assert times == 1
    place.write_text(text)


def costs(study: Study, rows: pd.DataFrame) -> str:
    """Return a row for each kind of job of a study, by what those of the rehearsal took."""
    images, epochs = images_of(study), study.training.epochs
    of_kind = rows.groupby(["step", "kind"])[["start", "per_image"]].mean().T.to_dict("list")
    of_step = rows.groupby("step")[["start", "per_image"]].mean().T.to_dict("list")
    jobs, unknown = [], set[str]()
    for step, words in jobs_of(study):
        size = images.get((words.get("dataset", ""), words.get("category", "")))
        if step not in of_step:  # downloads, and fusions, which take a second
            continue
        if size is None:
            unknown.add(words["dataset"])
            continue
        kind = kind_of(step, words)
        while (step, kind) not in of_kind and "_" in kind:
            kind = kind.rpartition("_")[0]  # a value that costs what its variant does
        start, per_image = of_kind.get((step, kind), of_step[step])
        times = epochs_of(study, words) if step == "train_model" else 1
        jobs.append({"step": step, "seconds": start + per_image * size * times})
    table = pd.DataFrame(jobs).groupby("step", sort=False)["seconds"].agg(["count", "max", "sum"])
    asked = asked_of_slurm()
    shown = pd.DataFrame(
        {
            "jobs": table["count"],
            "MiB": rows.groupby("step")["rss"].max().reindex(table.index),
            "asked MiB": [asked[step]["mem_mb"] for step in table.index],
            "minutes": table["max"] / 60,
            "asked minutes": [asked[step]["runtime"] for step in table.index],
            "h": table["sum"] / 3600,
        }
    )
    time = "a clock's, on a GPU" if time_of_jobs() == "s" else "the CPU's"
    told = NOTES.format(time=time, epochs=epochs, unknown=", ".join(sorted(unknown)) or "none")
    each = rows.sort_values(["step", "kind", "dataset"])
    return "\n\n".join([markdown(each.set_index("step")), markdown(shown), told])


def epochs_of(study: Study, words: Given) -> int:
    """Return how often a training sees each image."""
    if study.variant(words["variant"]).method.closed:
        return 1
    return study.fit_settings(words["dataset"], words["variant"]).training.epochs


def kind_of(step: str, words: Given) -> str:
    """Return what, beside the number of images, decides the cost of a job."""
    if step == "extract_features":
        return f"{words['encoder']}-{words['stages']}"
    return str(words["variant"]) if step in ("train_model", "score_images") else ""


def images_of(study: Study) -> dict[tuple[str, str], int | None]:
    """Return how many images each dataset and category has that are used, by its card."""
    found: dict[tuple[str, str], int | None] = {}
    for entry in study.datasets:
        for category, counts in entry.load_card().counts.items():
            told = counts and (counts.train_normal, counts.test_normal, counts.test_anomalous)
            known = [number for number in told or () if number is not None]
            found[entry.name, category] = sum(known) if len(known) == 3 else None
    return found


def measured(study: Study) -> pd.DataFrame:
    """Return what the rehearsal's jobs took: memory in MiB, seconds, and those of an image.

    A training's are those of an epoch; what it takes before and after is its `start`.
    """
    images, rows, time = images_of(study), [], time_of_jobs()
    for step, words in jobs_of(study):
        if step in DOWNLOADS:
            continue
        place = benchmark(step).format(study=study.study, **words)
        (line,) = pd.read_csv(place, sep="\t").to_dict("records")
        size = images[words["dataset"], words["category"]]
        assert size is not None
        start, times = 0.0, 1
        if step == "train_model":
            fit = read_receipt(path(study, "trained", words)).facts["fit_seconds"]
            start = line[time] * (1 - min(1, fit / line["s"]))
            times = epochs_of(study, words)
        rows.append(
            {"step": step, "kind": kind_of(step, words), "dataset": words["dataset"]}
            | {"rss": line["max_rss"], "seconds": line[time], "start": start}
            | {"per_image": (line[time] - start) / size / times}
        )
    return pd.DataFrame(rows)


def time_of_jobs() -> str:
    """Return the column of a benchmark that counts: a CPU that waits for a GPU costs nothing."""
    import torch

    return "s" if torch.cuda.is_available() else "cpu_time"


def asked_of_slurm() -> defaultdict[str, dict[str, int]]:
    """Return MB and minutes that profiles/slurm asks for at a job's first attempt."""
    profile = yaml.safe_load(Path("profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    first = {
        name: int(str(value).partition("*")[0])
        for name, value in profile["default-resources"].items()
    }
    asked = defaultdict[str, dict[str, int]](lambda: first)
    for rule, own in profile["set-resources"].items():
        asked[rule] = first | {
            name: int(str(value).partition("*")[0]) for name, value in own.items()
        }
    return asked


def markdown(table: pd.DataFrame) -> str:
    shown = table.map(lambda v: v if isinstance(v, str) else f"{v:.0f}" if v > 99 else f"{v:.3g}")
    return str(shown.to_markdown(disable_numparse=True))


if __name__ == "__main__":
    main()
