"""Start, look at and use studies of one-class image anomaly detection.

Run it in the folder of a project: a clone, or what `aeflow demo` makes. Experiments themselves run
by `snakemake`.
"""

import gc
import glob
import importlib.metadata
import io
import logging
import math
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aeflow.core.errors import AeflowError
from aeflow.core.text import printable

# What a command needs is imported inside it: help and completion wait for no pandas, no torch.
# Plain help, without boxes: it is read in logs and pipes too, and in half the time.
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(help=__doc__, pretty_exceptions_enable=False, **PLAIN)
datasets = typer.Typer(invoke_without_command=True, **PLAIN)
app.add_typer(datasets, name="datasets")

Configs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="CONFIG", help="Overlays, as for snakemake --configfile."),
]


STUDY = "Its name, or its folder in results/."


def _studies(begun: str) -> list[str]:
    """Return the names of studies, for the completion of one."""
    files = Path("results").glob(f"{glob.escape(begun)}*/study.json")
    return sorted(file.parent.name for file in files)


def main(arguments: list[str] | None = None) -> int:
    """Run the command in the folder of a repository; return its exit status."""
    gc.set_threshold(100_000)  # as in `script` of aeflow/core/job.py: imports leave no garbage
    logging.getLogger("aeflow").addHandler(logging.NullHandler())  # findings are printed instead
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every letter of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        status: int | None = app(arguments, prog_name="aeflow", standalone_mode=False)
        sys.stdout.flush()
    except AeflowError as error:
        print(f"aeflow: {printable(str(error))}", file=sys.stderr)
        return 1
    except typer.TyperException as error:  # how it was called
        told, context = printable(error.format_message()).rstrip("."), getattr(error, "ctx", None)
        command = context.command_path if context else "aeflow"
        print(f"aeflow: {told} (see `{command} --help`)", file=sys.stderr)
        return error.exit_code
    except typer.Abort:  # no answer to a question
        print("aeflow: nothing was done, since nobody answered", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        if arguments is None:  # the process ends: to look for garbage would take a second
            gc.freeze()
    return status or 0


def _tell_version(asked: bool) -> None:
    if asked:
        ours, torch = map(importlib.metadata.version, ("aeflow", "torch"))
        print(f"aeflow {ours}, Python {platform.python_version()}, torch {torch}")
        raise typer.Exit


@app.callback(epilog="Example: aeflow datasets")
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_tell_version,
            is_eager=True,
            help="Of aeflow, Python and torch.",
        ),
    ] = False,
) -> None: ...


@datasets.callback(epilog="Example: aeflow datasets")
def _datasets(context: typer.Context) -> None:
    """List the datasets and what of them is here, or check one."""
    from aeflow.commands.datasets import list_datasets

    if context.invoked_subcommand is None:
        list_datasets()


@datasets.command(epilog="Example: aeflow datasets check folder_mvtec --source /data/screws")
def check(
    name: Annotated[str, typer.Argument(help="A card in config/datasets/.")],
    edition: Annotated[str | None, typer.Option(help="One of the card's editions.")] = None,
    source: Annotated[
        str | None, typer.Option(help="An archive, folder or URL instead of what was fetched.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Only this of the card's categories; repeatable.")
    ] = None,
) -> int:
    """Verify archive, counts, duplicates, patients in two splits. Exit status 1: errors."""
    from aeflow.commands.datasets import check_dataset

    return check_dataset(name, edition, source, category or [])


@app.command(epilog="Example: aeflow demo aeflow-demo")
def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A new one, or a project. Unless told, this one, else aeflow-demo."),
    ] = None,
) -> int:
    """Run the demo in a project's folder, made if it is not there: no clone is needed."""
    from aeflow.commands.demo import run_demo

    return run_demo(folder)


@app.command(epilog="Example: aeflow init /data/screws")
def init(
    source: Annotated[str, typer.Argument(help="A folder or an archive.")],
    out: Annotated[Path | None, typer.Option(help="NAME.yaml here, unless told.")] = None,
) -> int:
    """Look at your own images and write a study of them. Exit status 1: errors in them."""
    from aeflow.commands.init import init_study

    return init_study(source, out)


@app.command(epilog="Example: aeflow plan config/demo.yaml")
def plan(configs: Configs = None) -> None:
    """Say what would run and why, in what time, on how much disk."""
    from aeflow.commands.plan import plan_study

    plan_study(configs or [])


@app.command("ls", epilog="Example: aeflow ls")
def list_() -> int:
    """List the studies in results/. Exit status 1: one cannot be read."""
    from aeflow.commands.studies import list_studies

    return list_studies()


@app.command(epilog="Example: aeflow compare demo other")
def compare(
    first: Annotated[str, typer.Argument(help=STUDY, autocompletion=_studies)],
    second: Annotated[str, typer.Argument(help=STUDY, autocompletion=_studies)],
) -> None:
    """Compare two studies: numbers with tests, other settings."""
    from aeflow.commands.compare import compare_studies

    compare_studies(first, second)


@app.command(epilog="Example: aeflow clean config/demo.yaml")
def clean(
    configs: Configs = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> int:
    """Remove what no study needs; shows it and asks first.

    Kept: what an overlay needs, what git or DVC tracks, and all that no receipt proves to be made
    here. Overlays in this folder, config/ and config/studies/ count by themselves; name those
    that lie elsewhere.
    """
    from aeflow.commands.clean import leftovers, remove
    from aeflow.core.text import megabytes

    found = leftovers(configs or [])
    sizes = {file: file.stat().st_size for left in found for file in left.files}
    for left in found:
        for file in left.files:
            print(f"{megabytes(sizes[file]):>12}  {printable(str(file))}  ({left.why})")
    told = f"{len(sizes)} files, {megabytes(sum(sizes.values()))}"
    if not found:
        print("There is nothing to remove.")
    elif yes or typer.confirm(f"Remove these {told}?"):
        remove(found)
        print(f"Removed: {told}.")
    else:
        print("Nothing was removed.")
        return 1
    return 0


@app.command("open", epilog="Example: aeflow open demo")
def open_(
    study: Annotated[
        str | None,
        typer.Argument(help=f"{STUDY} The newest, unless told.", autocompletion=_studies),
    ] = None,
) -> None:
    """Open a study's report in the browser, and print where it is."""
    from aeflow.commands.studies import open_report

    open_report(study)


@app.command(epilog="Example: aeflow doctor config/demo.yaml")
def doctor(configs: Configs = None) -> int:
    """Verify that configuration, payload and results belong together. Exit status 1: not."""
    from aeflow.data.local_sources import see_sources
    from aeflow.doctor import Doctor
    from aeflow.study.defaults import load_study

    examined = Doctor(see_sources(load_study(configs or [])))
    for finding in examined.examine():
        print(finding)
    found = len(examined.findings)
    verdict = f"failed, findings: {found}" if found else "passed"
    print(f"{examined.study.study}: {verdict}, files examined: {len(examined.examined)}")
    return 1 if found else 0


@app.command(epilog="Example: aeflow pack demo demo_textures recommended --category brick")
def pack(
    study: Annotated[str, typer.Argument(help=STUDY, autocompletion=_studies)],
    dataset: str,
    variant: Annotated[str, typer.Argument(help="Of a fusion its members are packed together.")],
    category: Annotated[str | None, typer.Option(help="Where the dataset has several.")] = None,
    seed: Annotated[int | None, typer.Option(help="The study's first, unless told.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="All seeds as one: the mean of their scores.")
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Weights in half precision, half the size.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="results/STUDY/detectors/..., unless told.")
    ] = None,
) -> None:
    """Make one file of what was trained, a detector."""
    if ensemble and seed is not None:
        raise typer.BadParameter("is of all seeds, and --seed of one", param_hint="--ensemble")

    from aeflow.commands.studies import find_study
    from aeflow.detector.pack import ensemble_of  # torch
    from aeflow.detector.pack import pack as write
    from aeflow.study.cells import find_cell, path

    logging.basicConfig(level=logging.WARNING, format="aeflow: %(message)s")
    found = find_study(study)
    if ensemble:
        found, variant = ensemble_of(found, variant)
    cell = find_cell(found, dataset, variant, category, seed)
    target = out or path(found, "detector", cell)
    packed = write(found, cell, target, half)
    size = f"{target.stat().st_size / 1e6:.1f} MB{' in half precision' * half}"
    told = f"{target}: {size}, {packed.detector.told()}"
    if packed.images:
        told += (
            f"; {packed.images} validation images were scored again: no score is further from the "
            f"study's than {100 * packed.apart:.2g} % of their range"
        )
    print(told + ", no verdict is another" * half)


@app.command(epilog="Example: aeflow predict screws.safetensors /data/new --out judged")
def predict(
    detector: Annotated[Path, typer.Argument(help="What `aeflow pack` wrote.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, folders, patterns, a zip, a csv list.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    maps: Literal["none", "npy", "tiff"] = "none",
    no_overlays: Annotated[
        bool, typer.Option("--no-overlays", help="No picture of each image.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="A score from which an image is anomalous.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Of the validation anomalies, 0 to 1.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Of the validation normals, 0 to 1.")
    ] = None,
    fpr: Annotated[
        float | None, typer.Option(help="False positive rate: 1 - specificity.")
    ] = None,
) -> int:
    """Give scores, verdicts and maps of new images. Exit status 3: some could not be used."""
    given = {"threshold": threshold, "sensitivity": sensitivity}
    given |= {"specificity": specificity, "fpr": fpr}
    if threshold is not None and not math.isfinite(threshold):
        raise typer.BadParameter(f"{threshold} is no score", param_hint="--threshold")
    if len(named := [f"--{name}" for name, value in given.items() if value is not None]) > 1:
        raise typer.BadParameter(f"{' and '.join(named)} exclude one another", param_hint=named[1])

    from aeflow.core.errors import DataError
    from aeflow.core.schema import validate
    from aeflow.detector.detector import Detector  # torch
    from aeflow.detector.predictions import NAME, PAGE
    from aeflow.detector.predictions import predict as score
    from aeflow.judging.thresholds import Threshold
    from aeflow.study.settings import ThresholdSettings

    logging.basicConfig(level=logging.INFO, format="aeflow: %(message)s")
    using = Detector.load(detector)
    if threshold is not None:
        using.threshold = Threshold(threshold, "given", "as told")
    for option, rule, share in (
        ("--sensitivity", "sensitivity", sensitivity),
        ("--specificity", "specificity", specificity),
        ("--fpr", "specificity", None if fpr is None else 1 - fpr),
    ):
        if share is not None:
            using.operate(validate(ThresholdSettings, {"rule": rule, rule: share}, option))
    if using.threshold.value is None and using.threshold.reason:
        raise DataError(using.threshold.reason)
    print(f"{detector}: {using.told()}", file=sys.stderr)
    if using.threshold.warning:
        print(f"aeflow: {using.threshold.warning}", file=sys.stderr)
    found = score(using, detector, images, out, maps, pictures=not no_overlays)
    print(
        f"{found.images} images: {found.anomalous} anomalous, "
        f"{found.images - found.anomalous - found.unreadable} normal, "
        f"{found.unreadable} could not be used; {out / NAME}, {out / PAGE}"
    )
    return 3 if found.unreadable else 0


@app.command(epilog="Example: aeflow export screws.safetensors --to onnx")
def export(
    detector: Annotated[Path, typer.Argument(help="What `aeflow pack` wrote.")],
    to: Annotated[Literal["onnx", "openvino", "torch"], typer.Option(help="Who is to run it.")],
    out: Annotated[
        Path | None, typer.Option(help=".onnx, .xml or .pt2, beside the detector unless told.")
    ] = None,
) -> None:
    """Make one graph of a detector, which runs without aeflow."""
    from aeflow.detector.export import export as write  # torch

    logging.basicConfig(level=logging.WARNING, format="aeflow: %(message)s")
    written = write(detector, to, out)
    size = sum(path.stat().st_size for path in written.paths) / 1e6
    print(
        f"{' and '.join(map(str, written.paths))}: {size:.1f} MB, image -> "
        f"{', '.join(written.outputs)}; scores differ from the detector's by {written.apart:.1e} "
        "of their range"
    )
