"""One self-contained HTML page about a study: tables, figures, cost, provenance, licences."""

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from aeflow.core.errors import AeflowError
from aeflow.core.files import read_json, write_text
from aeflow.display.figure import read_caption
from aeflow.display.table import DisplayTable, by_variant, number, plain, write_table
from aeflow.questions.source import Run, Source, means
from aeflow.report import contents
from aeflow.report.warned import Warned, warnings_of
from aeflow.study.cells import Cell, jobs_of, study_cells, table_of
from aeflow.study.study import Study

_COUNTS = {
    "n_train": "Train, normal",
    "n_val_normal": "Validation, normal",
    "n_val_anomalous": "Validation, anomalous",
    "n_test_normal": "Test, normal",
    "n_test_anomalous": "Test, anomalous",
}
Headed = Sequence[tuple[str, DisplayTable]]


def build_page(
    study: Study,
    missing: contents.Missing | None = None,
    failed: Headed = (),
    warned: Sequence[Warned] | None = None,
) -> str:
    """Return the page.

    Args:
        missing: of an incomplete study, the cells without a result and why. It has no figures.
        failed: (heading, table) pairs of what failed.
        warned: what its jobs warned of; else what the receipts of all its jobs say.

    Raises:
        DataError: a file is missing, or a figure carries no caption.
    """
    reads = {"metrics", "train", "published", *contents.TABLES}
    cells = contents.named_cells(study)
    make = None if missing is None else contents.maker(study, missing)
    source = Source(study, reads, cells, missing, make)
    results, main = (
        table[table["variant"].isin(study.named)].reset_index(drop=True)
        for table in map(source.table, ("results", "main"))
    )
    lacking = source.lacking()
    runs = [run for run in source.runs() if (run["dataset"], run["variant"]) not in lacking]
    trainings = source.trainings([c for c in cells if study.variant(c.variant).method.ours])
    figures = {
        (name, of): _embed(contents.figure_file(study, name, of))
        for name, of in (contents.figures(study) if missing is None else [])
    }
    sections = [
        {
            "question": question,
            "figures": _of(question.entries, figures),
            "tables": [
                (entry.heading, _shown(source, entry.name, missing))
                for entry in question.entries
                if entry.heading
            ],
        }
        for question in contents.QUESTIONS
    ]
    datasets = []
    for name in main["dataset"].unique():
        own = [run for run in runs if run["dataset"] == name]
        rows = contents.show(study, "results", results[results["dataset"] == name])
        datasets.append(
            {
                "name": name,
                "card": study.dataset(name).load_card(),
                "figures": _of(contents.PER_DATASET, figures, name),
                "tables": [*_dataset_tables(own), ("Runs and thresholds", rows)],
                "reasons": _reasons(own),
            }
        )
    loader = PackageLoader("aeflow.report", ".")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "autoescape": True}
    environment = Environment(loader=loader, undefined=StrictUndefined, **options)
    return environment.get_template("report.html").render(
        study=study.study,
        summary=_summary(main),
        sections=sections,
        sources=list(source.published().sources.values()),
        datasets=datasets,
        cost=_cost(main),
        settings=_settings([*trainings, *runs]),
        software=_software(trainings),
        failed=failed,
        warned=_warned(warnings_of(study, jobs_of(study)) if warned is None else warned),
    )


def write_incomplete(study: Study, failures: Path) -> None:
    """Write tables and page of an incomplete study beside the list of its failures.

    Args:
        failures: JSON of `jobs`, those that failed (rule, of, log, reason); `missing`, the cells
            whose metrics were not made: `table`, and the numbers of the `failed` jobs behind;
            `warnings`, what the others warned of (`Warned`).
    """
    known = read_json(failures)
    jobs = known["jobs"]
    reasons = {}
    for absent in known["missing"]:
        behind = dict.fromkeys(jobs[number]["reason"] for number in absent["failed"])
        reasons[Cell(*absent["table"])] = " ".join(behind) or "Not run."
    cells = {cell: table_of(study, cell) for cell in study_cells(study)}
    missing = {cell: reasons[table] for cell, table in cells.items() if table in reasons}
    make = contents.maker(study, missing)
    for name in contents.TABLES:
        files = (failures.with_name(f"{name}.{ending}") for ending in ("csv", "md", "tex"))
        with suppress(AeflowError):  # the page says why
            table = make(name)
            write_table(table, contents.show(study, name, table, missing), *files)
    page = failures.with_name("report.html")
    warned = [Warned(**warning) for warning in known["warnings"]]
    write_text(page, build_page(study, missing, _failed(jobs, missing), warned))
    print(
        f"Cells without a result: {len(missing)} of {len(cells)}; jobs that failed: {len(jobs)}. "
        f"What there is, and why: {page}",
        file=sys.stderr,
    )


def _warned(warnings: Sequence[Warned]) -> DisplayTable:
    rows = [(warned.text(), warned.where(page=True)) for warned in warnings]
    return plain(pd.DataFrame(rows, columns=["Warning", "About"]))


def _shown(source: Source, name: str, missing: contents.Missing | None) -> DisplayTable:
    """Return a table of the page; of an incomplete study it may be one that cannot be made."""
    try:
        return contents.show(source.study, name, source.table(name), missing)
    except AeflowError as error:
        if missing is None:
            raise
        return plain(pd.DataFrame(), f"It could not be made. {error}")


def _failed(jobs: Sequence[dict[str, str]], missing: contents.Missing) -> Headed:
    rows = pd.DataFrame(jobs, columns=["rule", "of", "reason"])
    rows.columns = pd.Index(["Rule", "Of", "Why"])
    seeds: dict[tuple[str, ...], list[str]] = {}
    for cell, reason in missing.items():
        seeds.setdefault((*cell[:3], reason), []).append(str(cell.seed))
    cells = [(*names, ", ".join(own), reason) for (*names, reason), own in seeds.items()]
    heads = ["Dataset", "Category", "Variant", "Seeds", "Why"]
    shown = plain(pd.DataFrame(cells, columns=heads))
    return [("Jobs that failed", plain(rows)), ("Cells without a result", shown)]


def _of(
    entries: Sequence[contents.Entry], figures: dict[tuple[str, str], Any], dataset: str = ""
) -> list[Any]:
    """Return the figures of entries, of a dataset or of all; what they are drawn for together."""
    things = dict.fromkeys(of for _, of in figures if dataset in ("", of.split("+")[0]))
    keys = [(entry.name, of) for of in things for entry in entries if entry.each]
    return [figures[key] for key in keys if key in figures]


def _embed(file: Path) -> dict[str, Any]:
    """Embed an SVG as it is, a PNG as WebP: photographs are a tenth of the size then."""
    caption, content, media_type = read_caption(file), file.read_bytes(), "image/svg+xml"
    if file.suffix != ".svg":
        with Image.open(file) as image, BytesIO() as buffer:
            image.convert("RGB").save(buffer, "WEBP", quality=85)
            content, media_type = buffer.getvalue(), "image/webp"
    text = base64.b64encode(content).decode("ascii")
    return {"caption": caption, "uri": f"data:{media_type};base64,{text}"}


def _summary(main: pd.DataFrame) -> str:
    """Return one sentence on the size of the study."""
    seeds = sorted({int(count) for count in main["n_seeds"]})
    counts = [
        f"{n} {noun}{'' if n == 1 else 's'}"
        for noun in ("variant", "dataset")
        for n in [main[noun].nunique()]
    ]
    several = "" if seeds == [1] else "s"
    return f"{' on '.join(counts)}, {' or '.join(map(str, seeds))} seed{several} each."


def _dataset_tables(runs: Sequence[Run]) -> list[tuple[str, DisplayTable]]:
    """Return (heading, table) pairs about the images and score components of a dataset."""
    images = {run["category"]: run for run in runs}  # all runs of a category have the same
    counts = [
        {"Category": category} | {label: str(run[name]) for name, label in _COUNTS.items()}
        for category, run in images.items()
    ]
    tables = [("Images", plain(pd.DataFrame(counts)))] if counts else []
    components = pd.DataFrame(
        [run | {"component": n} | found for run in runs for n, found in run["components"].items()]
    )
    for split, metric in (("validation", "val_auroc"), ("test", "test_auroc")):
        if len(components) and components[metric].notna().any():
            rows = components.astype({metric: "float64"})
            found = means(rows, ["component", "variant"], [metric])
            cells, _ = by_variant(found, {"component": "Component"}, metric)
            shown = plain(cells, "Percent, mean ± sd over seeds.")
            tables.append((f"AUROC of each score component on the {split} images", shown))
    return tables


def _reasons(runs: Sequence[Run]) -> list[str]:
    """Return why cells of a dataset are empty: one line per sentence, with its metrics."""
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for run in runs:
        for metric, sentence in run["reasons"].items():
            metrics, variants = found.setdefault(sentence, ({}, {}))
            metrics[metric] = variants[run["variant"]] = None
    everyone = {run["variant"] for run in runs}
    return [
        f"{', '.join(metrics)}"
        + ("" if set(variants) == everyone else f" ({', '.join(variants)})")
        + f": {sentence}"
        for sentence, (metrics, variants) in found.items()
    ]


def _cost(main: pd.DataFrame) -> DisplayTable:
    """Return training time and memory per model."""
    cells = pd.DataFrame({"Dataset": main["dataset"], "Variant": main["variant"]})
    for name, label in (("fit_seconds", "Seconds per model"), ("peak_rss_mib", "Memory (MiB)")):
        cells[label] = [
            " ± ".join(filter(None, [number(mean, 1), number(sd, 1)]))
            for mean, sd in zip(main[f"{name}_mean"], main[f"{name}_sd"], strict=True)
        ]
    return plain(
        cells[cells["Memory (MiB)"] != ""],
        "Mean ± sd over seeds; wall time, and the largest resident set of the training's process "
        "(mapped files included). A fusion's are its members': the sum, and the largest.",
    )


def _settings(runs: Sequence[Run]) -> DisplayTable:
    """Return every setting, and where it has several values, which variants or datasets have it.

    A setting of the metrics counts where the training was made under another: changing beta, say,
    trains nothing again.
    """
    values: dict[str, dict[tuple[str, str], str]] = {}
    for run in runs:
        for key, value in _flat(run["settings"]):
            shown = value if isinstance(value, str) else json.dumps(value)  # as in the config
            values.setdefault(key, {})[run["dataset"], run["variant"]] = shown
    rows = [(key, _choices(cells)) for key, cells in values.items()]
    return plain(pd.DataFrame(rows, columns=["Setting", "Value"]))


def _choices(values: dict[tuple[str, str], str]) -> str:
    """Return the one value, or each value with the variants or datasets that have it."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    ways = [lambda cell: cell[1], lambda cell: cell[0], "/".join]
    for way in ways:
        found = dict.fromkeys((value, way(cell)) for cell, value in values.items())
        if len(found) == len({way(cell) for cell in values}):  # each name has one value
            break
    names: dict[str, list[str]] = {}
    for value, name in found:
        names.setdefault(value, []).append(name)
    return "; ".join(f"{value} ({', '.join(own)})" for value, own in names.items())


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _software(trainings: Sequence[Run]) -> DisplayTable:
    """Return the devices and package versions of all trainings."""
    found: dict[str, dict[str, None]] = {}
    for training in trainings:
        for what, version in {"device": training["device"], **training["versions"]}.items():
            found.setdefault(what, {})[str(version)] = None
    rows = [(what, ", ".join(versions)) for what, versions in found.items()]
    return plain(pd.DataFrame(rows, columns=["What", "Version"]))
