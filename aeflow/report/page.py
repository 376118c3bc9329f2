"""One self-contained HTML page about a study: its answer, what it shows, cost, provenance."""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from aeflow.core.errors import AeflowError
from aeflow.core.files import read_json, write_text
from aeflow.core.text import guarded
from aeflow.display.figure import Caption, read_caption
from aeflow.display.table import (
    DisplayTable,
    by_variant,
    csv_text,
    number,
    plain,
    typed,
    write_table,
)
from aeflow.questions.source import Run, Source, means
from aeflow.report import contents
from aeflow.report.answer import Answer, answers, question
from aeflow.report.examples import KINDS, examples
from aeflow.report.warned import Warned, warnings_of
from aeflow.study.cells import jobs_of, path, study_cells
from aeflow.study.study import Study

# A page of more has its largest figures beside it, as they lie in the study's folder.
LARGEST = 10_000_000  # bytes
_COUNTS = {
    "n_train": "Train, normal",
    "n_val_normal": "Validation, normal",
    "n_val_anomalous": "Validation, anomalous",
    "n_test_normal": "Test, normal",
    "n_test_anomalous": "Test, anomalous",
}
_WIDEST = 1000  # pixels of a photograph on the page, fewer than in print
_ENLARGED = 1.35  # of a drawing on the page: print is read from nearer
_SVG = "http://www.w3.org/2000/svg"
_REFERENCE = re.compile(r"^(url\()?#")
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclass(frozen=True)
class Shown:
    """A table of the page.

    Attributes:
        heading: above it.
        table: as people see it.
        data: the same with every digit; None: what people see is all there is.
    """

    heading: str
    table: DisplayTable
    data: pd.DataFrame | None = None

    @property
    def csv(self) -> str:
        """The address of the table as CSV, within the page."""
        cells = self.table.cells
        text = cells.map(guarded).to_csv(index=False) if self.data is None else csv_text(self.data)
        return _address(text.encode(), "text/csv;charset=utf-8")


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        caption: what it shows.
        drawn: whether it is of lines, which a dark page turns to light ones.
        content: its elements, or its address where it is none of the page's own.
        within: whether it is in the page and not beside it.
    """

    caption: Caption
    drawn: bool
    content: str
    within: bool = True


def build_page(
    study: Study,
    missing: contents.Missing | None = None,
    failed: Sequence[Shown] = (),
    warned: Sequence[Warned] | None = None,
    make: contents.Make | None = None,
) -> str:
    """Return the page.

    Args:
        missing: of an incomplete study, the cells without a result and why. It has no pictures.
        failed: what failed.
        warned: what its jobs warned of; else what the receipts of all its jobs say.
        make: of an incomplete study, what makes its tables.

    Raises:
        DataError: a file is missing, or a figure carries no caption.
    """
    reads = {"metrics", "train", "published", *contents.TABLES}
    cells = contents.named_cells(study)
    source = Source(study, reads, cells, missing, make)
    whole = source.table("main")
    results, main = (
        table[table["variant"].isin(study.named)].reset_index(drop=True)
        for table in (source.table("results"), whole)
    )
    lacking = source.lacking()
    runs = [run for run in source.runs() if (run["dataset"], run["variant"]) not in lacking]
    trainings = source.trainings([c for c in cells if study.variant(c.variant).method.ours])
    figures = _pictures(study) if missing is None else {}
    others = (_table(source, name, missing) for name in ("comparison", "choice"))
    told = answers(study, whole, *others)
    shown = {} if missing is not None else {a.dataset: _examples(study, a, main) for a in told}
    tables = {name: _shown(source, name, missing) for name in contents.TABLES}
    sections = [
        {
            "question": asked,
            "figures": _of(asked.entries, figures),
            "tables": [tables[e.name] for e in asked.entries if e.each is None and tables[e.name]],
        }
        for asked in contents.QUESTIONS
    ]
    datasets = []
    for name in main["dataset"].unique():
        own = [run for run in runs if run["dataset"] == name]
        rows = results[results["dataset"] == name]
        every = Shown("Runs and thresholds", contents.show(study, "results", rows), rows)
        datasets.append(
            {
                "name": name,
                "card": study.dataset(name).load_card(),
                "figures": _of(contents.PER_DATASET, figures, name),
                "tables": [*_dataset_tables(own, study.labels), every],
                "reasons": _reasons(own, study.labels),
            }
        )
    loader = PackageLoader("aeflow.report", ".")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "autoescape": True}
    environment = Environment(loader=loader, undefined=StrictUndefined, **options)
    script = loader.get_source(environment, "report.js")[0]
    return environment.get_template("report.html").render(
        study=study.study,
        asked=question(study),
        summary=_summary(main),
        answers=told,
        examples=shown,
        roc=_of(contents.FIRST, figures),
        main=tables["main"],
        sections=[each for each in sections if each["tables"] or each["figures"]],
        sources=list(source.published().sources.values()),
        datasets=datasets,
        cost=Shown("Cost of training", _cost(main).labelled(study.labels)),
        settings=Shown("Settings", _settings([*trainings, *runs], study.labels)),
        software=Shown("Devices and versions", _software(trainings)),
        failed=failed,
        warned=_warned(warnings_of(study, jobs_of(study)) if warned is None else warned),
        beside=sum(not picture.within for picture in figures.values()),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_incomplete(study: Study, failures: Path) -> None:
    """Write tables and page of an incomplete study beside the list of its failures.

    Args:
        failures: JSON of `jobs`, those that failed (rule, of, log, reason); `missing`, the cells
            whose metrics were not made: `table`, and the numbers of the `failed` jobs behind;
            `warnings`, what the others warned of (`Warned`).
    """
    known = read_json(failures)
    jobs, cells = known["jobs"], study_cells(study)
    missing = contents.missing_cells(study, failures)
    make = contents.maker(study, missing)
    for name in contents.TABLES:
        files = (failures.with_name(f"{name}.{ending}") for ending in ("csv", "md", "tex"))
        with suppress(AeflowError):  # the page says why
            table = make(name)
            write_table(table, contents.show(study, name, table, missing), *files)
    page = failures.with_name("report.html")
    warned = [Warned(**warning) for warning in known["warnings"]]
    write_text(
        page, build_page(study, missing, _failed(jobs, missing, study.labels), warned, make)
    )
    print(
        f"Cells without a result: {len(missing)} of {len(cells)}; jobs that failed: {len(jobs)}. "
        f"What there is, and why: {page}",
        file=sys.stderr,
    )


def _warned(warnings: Sequence[Warned]) -> Shown:
    rows = [(warned.text(), warned.where(page=True)) for warned in warnings]
    return Shown("Warnings", plain(pd.DataFrame(rows, columns=["Warning", "About"])))


def _shown(source: Source, name: str, missing: contents.Missing | None) -> Shown | None:
    """Return a table of the page, or None: it has no heading, or nothing to say.

    Of an incomplete study it may be one that cannot be made: then it says why.
    """
    heading = contents.TABLES[name].heading
    try:
        data = source.table(name)
        table = contents.show(source.study, name, data, missing)
    except AeflowError as error:
        if missing is None:
            raise
        return Shown(heading, plain(pd.DataFrame(), f"It could not be made. {error}"))
    return Shown(heading, table, data) if heading and len(table.cells) else None


def _table(source: Source, name: str, missing: contents.Missing | None) -> pd.DataFrame:
    """Return a table; without rows if it is one of an incomplete study and cannot be made."""
    try:
        return source.table(name)
    except AeflowError:
        if missing is None:
            raise
        return typed(pd.DataFrame(columns=["dataset", "variant", "chosen"]))


def _failed(
    jobs: Sequence[dict[str, str]], missing: contents.Missing, labels: Mapping[str, str]
) -> list[Shown]:
    rows = pd.DataFrame(jobs, columns=["rule", "of", "reason"])
    rows.columns = pd.Index(["Rule", "Of", "Why"])
    seeds: dict[tuple[str, ...], list[str]] = {}
    for cell, reason in missing.items():
        seeds.setdefault((*cell[:3], reason), []).append(str(cell.seed))
    cells = [(*names, ", ".join(own), reason) for (*names, reason), own in seeds.items()]
    heads = ["Dataset", "Category", "Variant", "Seeds", "Why"]
    shown = plain(pd.DataFrame(cells, columns=heads)).labelled(labels)
    return [Shown("Jobs that failed", plain(rows)), Shown("Cells without a result", shown)]


def _of(
    entries: Sequence[contents.Entry], figures: dict[tuple[str, str], Any], dataset: str = ""
) -> list[Any]:
    """Return the figures of entries, of a dataset or of all; what they are drawn for together."""
    things = dict.fromkeys(of for _, of in figures if dataset in ("", of.split("+")[0]))
    keys = [(entry.name, of) for of in things for entry in entries if entry.each]
    return [figures[key] for key in keys if key in figures]


def _pictures(study: Study) -> dict[tuple[str, str], Picture]:
    """Return the figures that show something; the largest lie beside a page that is too large."""
    files = {key: contents.figure_file(study, *key) for key in contents.figures(study)}
    found = {key: _embedded(file, number) for number, (key, file) in enumerate(files.items())}
    found = {key: picture for key, picture in found.items() if not picture.caption.empty}
    size = sum(len(picture.content) for picture in found.values())
    for key in sorted(found, key=lambda key: -len(found[key].content)):
        if size <= LARGEST:
            break
        size -= len(found[key].content)
        address = files[key].relative_to(path(study, "report", {}).parent).as_posix()
        found[key] = replace(found[key], content=quote(address), within=False)
    return found


def _embedded(file: Path, number: int) -> Picture:
    """Return a figure as a part of the page: lines as elements, photographs as WebP.

    WebP is a tenth of the size then. Elements of two figures may have one name.
    """
    caption = read_caption(file)
    if file.suffix != ".svg":
        with Image.open(file) as image, BytesIO() as buffer:
            image.thumbnail((_WIDEST, _WIDEST * 3))
            image.convert("RGB").save(buffer, "WEBP", quality=85)
            return Picture(caption, False, _address(buffer.getvalue(), "image/webp"))
    root = ElementTree.parse(file).getroot()
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"f{number}-{value}")
            elif "#" in value:
                element.set(name, _REFERENCE.sub(rf"\1#f{number}-", value))
    for name in ("width", "height"):
        if size := root.get(name):
            root.set(name, f"{_ENLARGED * float(size.removesuffix('pt')):g}pt")
    root.attrib |= {"role": "img", "aria-label": f"{caption.title}. {caption.text}"}
    return Picture(caption, True, ElementTree.tostring(root, encoding="unicode"))


def _address(content: bytes, kind: str) -> str:
    """Return an address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _examples(study: Study, answer: Answer, main: pd.DataFrame) -> dict[str, Any]:
    """Return example pictures of the best variant that has an anomaly map, and whose they are."""
    cells = [cell for cell in contents.example_cells(study) if cell.dataset == answer.dataset]
    rows = main[main["dataset"] == answer.dataset]
    order = rows.sort_values("image_auroc_mean", ascending=False, kind="stable")["variant"]
    known = {cell.variant for cell in cells}
    variant = next((name for name in order if name in known), None)
    own = [cell for cell in cells if cell.variant == variant]
    if not own:
        return {"pictures": []}
    found = examples(Source(study, {"metrics", "scores", "galleries"}, own))
    absent = [kind for kind in KINDS if kind not in {example.kind for example in found}]
    pictures = [(example, _address(example.webp, "image/webp")) for example in found]
    return {
        "pictures": pictures,
        "variant": study.label(own[0].variant),
        "seed": own[0].seed,
        "absent": absent,
        # The best variant, where it has no anomaly map and these pictures are of another.
        "mapless": study.label(answer.variant) if answer.variant not in ("", variant) else "",
    }


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


def _dataset_tables(runs: Sequence[Run], labels: Mapping[str, str]) -> list[Shown]:
    """Return tables about the images and score components of a dataset."""
    images = {run["category"]: run for run in runs}  # all runs of a category have the same
    counts = [
        {"Category": category} | {label: str(run[name]) for name, label in _COUNTS.items()}
        for category, run in images.items()
    ]
    tables = [Shown("Images", plain(pd.DataFrame(counts)))] if counts else []
    components = pd.DataFrame(
        [run | {"component": n} | found for run in runs for n, found in run["components"].items()]
    )
    for split, metric in (("validation", "val_auroc"), ("test", "test_auroc")):
        if len(components) and components[metric].notna().any():
            rows = components.astype({metric: "float64"})
            found = means(rows, ["component", "variant"], [metric])
            cells, _ = by_variant(found, {"component": "Component"}, metric, labels)
            shown = plain(cells, "Percent, mean ± sd over seeds.")
            tables.append(Shown(f"AUROC of each score component on the {split} images", shown))
    return tables


def _reasons(runs: Sequence[Run], labels: Mapping[str, str]) -> list[str]:
    """Return why cells of a dataset are empty: one line per sentence, with its metrics."""
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for run in runs:
        for metric, sentence in run["reasons"].items():
            metrics, variants = found.setdefault(sentence, ({}, {}))
            metrics[metric] = variants[labels[run["variant"]]] = None
    everyone = {labels[run["variant"]] for run in runs}
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


def _settings(runs: Sequence[Run], labels: Mapping[str, str]) -> DisplayTable:
    """Return every setting, and where it has several values, which variants or datasets have it.

    A setting of the metrics counts where the training was made under another: changing beta, say,
    trains nothing again.
    """
    values: dict[str, dict[tuple[str, str], str]] = {}
    for run in runs:
        for key, value in _flat(run["settings"]):
            shown = value if isinstance(value, str) else json.dumps(value)  # as in the config
            values.setdefault(key, {})[run["dataset"], labels[run["variant"]]] = shown
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
