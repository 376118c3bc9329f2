"""The cells of a study, the steps that make them, and the path of every file.

Rules, scripts and `aeflow doctor` all take what a step reads and makes from here.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aeflow.core.errors import ConfigError
from aeflow.core.types import Method
from aeflow.study.asked import (
    Asked,
    FeaturesAsked,
    FetchAsked,
    FitAsked,
    FuseAsked,
    JudgeAsked,
    MemberAsked,
    PrepareAsked,
    ScoreAsked,
    VariantAsked,
    WeightsAsked,
)
from aeflow.study.study import Study

_PREPARED = "prepared/{dataset}/{category}"
_STAGES = "features/{encoder}-stage{stages}/{dataset}/{category}"
CELL = "{dataset}/{category}/{variant}/seed{seed}"
# Name -> path. `variant` in the path of a training or a score table is the first variant that has
# that training (`table_of`).
PATHS = {
    "study": "results/{study}/study.json",
    "archive": "data/raw/{archive}.zip",
    "fetched": "data/receipts/raw/{archive}.json",
    "images": f"data/{_PREPARED}/images.npy",
    "masks": f"data/{_PREPARED}/masks.npy",
    "index": f"data/{_PREPARED}/index.csv",
    "prepared": f"data/receipts/{_PREPARED}.json",
    "prepared_masks": "data/receipts/masks/{dataset}/{category}.json",
    "weights": "data/weights/{encoder}.safetensors",
    "fetched_weights": "data/receipts/weights/{encoder}.json",
    "features": f"data/{_STAGES}.npy",
    "extracted": f"data/receipts/{_STAGES}.json",
    "model": f"results/{{study}}/models/{CELL}.safetensors",
    "state": f"results/{{study}}/scratch/{CELL}.safetensors",
    "history": f"results/{{study}}/train/{CELL}.csv",
    "trained": f"results/{{study}}/train/{CELL}.json",
    "scores": f"results/{{study}}/scores/{CELL}.csv",
    "scored": f"results/{{study}}/scores/{CELL}.json",
    "gallery": f"results/{{study}}/galleries/{CELL}.npz",
    "metrics": f"results/{{study}}/metrics/{CELL}.json",
    "csv": "results/{study}/tables/{table}.csv",
    "md": "results/{study}/tables/{table}.md",
    "tex": "results/{study}/tables/{table}.tex",
    "svg": "results/{study}/figures/{figure}-{of}.svg",
    "png": "results/{study}/figures/{figure}-{of}.png",
    "pdf": "results/{study}/figures/{figure}-{of}.pdf",
    "report": "results/{study}/report.html",
    "headline": "results/{study}/metrics.json",
    "browse": "results/{study}/browse/index.html",
    "browsed": "results/{study}/browse/data",
    "logged": "results/{study}/logged/{logger}",
    "detector": "results/{study}/detectors/{dataset}-{category}-{variant}-seed{seed}.safetensors",
    "incomplete": "results/{study}/incomplete/",
}
# What steps make that a clone may lack: it goes to DVC, in the folders of `scripts/track.py`.
PAYLOAD = ("archive", "images", "masks", "index", "weights", "features", "model", "gallery")


class Step(NamedTuple):
    """A rule, and the script of its name."""

    makes: tuple[str, ...]  # names of its files, the receipt aside
    receipt: str  # its name


STEPS = {
    "fetch_data": Step(("archive",), "fetched"),
    "prepare_images": Step(("images", "index"), "prepared"),
    "prepare_masks": Step(("masks",), "prepared_masks"),
    "fetch_weights": Step(("weights",), "fetched_weights"),
    "extract_features": Step(("features",), "extracted"),
    "train_model": Step(("model", "history"), "trained"),
    "score_images": Step(("scores", "gallery"), "scored"),
    "fuse_scores": Step(("scores",), "scored"),
    "evaluate_scores": Step((), "metrics"),
}
# Payload -> the receipt that names it.
RECEIPTS = {name: step.receipt for step in STEPS.values() for name in step.makes}


class Cell(NamedTuple):
    """One number of a study's tables: what, on what, with which seed."""

    dataset: str
    category: str
    variant: str
    seed: int


Given = Mapping[str, Any]  # the wildcards of a job: dataset, category, ...


def path(study: Study, name: str, given: Given | Cell) -> Path:
    """Return the path of one of `PATHS`.

    `given` is a cell, or the other words in it; archive, encoder and stages follow from dataset
    and variant.
    """
    words = given._asdict() if isinstance(given, Cell) else dict(given)
    pattern = PATHS[name]
    if "{archive}" in pattern and "archive" not in words:
        words["archive"] = study.dataset(words["dataset"]).archive
    if "{encoder}" in pattern and "encoder" not in words:
        words |= _encoded(study, words["dataset"], words["variant"])
    return Path(pattern.format(study=study.study, **words))


def study_cells(study: Study) -> list[Cell]:
    """Return every cell: dataset, category, variant, seed, the last fastest."""
    return [
        Cell(entry.name, category, variant.name, seed)
        for entry in study.datasets
        for category in study.categories(entry.name)
        for variant in study.variants_on(entry.name)
        for seed in study.seeds_of(variant.name)
    ]


def table_of(study: Study, cell: Cell) -> Cell:
    """Return the cell whose score table is that of `cell`.

    Variants with one training share it; a variant without seeds has one table for all seeds.
    """
    seeds = study.seeds_of(cell.variant)
    return cell._replace(
        variant=study.trained_as(cell.dataset, cell.variant),
        seed=cell.seed if cell.seed in seeds else seeds[0],
    )


def find_cell(
    study: Study, dataset: str, variant: str, category: str | None, seed: int | None
) -> Cell:
    """Return a cell of a study by its words, or the only one that some of them name.

    Raises:
        ConfigError: there is none, or several; names the words that there are.
    """
    found = study_cells(study)
    asked = {"dataset": dataset, "variant": variant, "category": category, "seed": seed}
    for key, value in asked.items():
        there = list(dict.fromkeys(getattr(cell, key) for cell in found))
        if value is None and key == "category" and len(there) > 1:
            raise ConfigError(f"{dataset} has several categories: --category {' | '.join(there)}.")
        value = there[0] if value is None else value
        if value not in there:
            raise ConfigError(
                f"The study {study.study} has no {key} '{value}' here, but "
                f"{', '.join(map(str, there))}."
            )
        found = [cell for cell in found if getattr(cell, key) == value]
    return found[0]


def score_tables(study: Study) -> list[Cell]:
    """Return the cells that have a score table of their own."""
    return [cell for cell in study_cells(study) if table_of(study, cell) == cell]


def members_of(study: Study, cell: Cell) -> list[Cell]:
    """Return the cells that a fusion is made from, in the order of its table's columns."""
    names = study.variant(cell.variant).members
    if len(names) == 1:
        return [cell._replace(variant=names[0], seed=seed) for seed in study.seeds_of(names[0])]
    return [cell._replace(variant=name) for name in names]


def trainings_of(study: Study, cell: Cell) -> list[Cell]:
    """Return the cells whose trainings are behind `cell`: none, one, or those of its members."""
    variant = study.variant(cell.variant)
    behind = members_of(study, cell) if variant.method == Method.FUSION else [cell]
    trained = [
        table_of(study, other) for other in behind if study.variant(other.variant).method.fitted
    ]
    return list(dict.fromkeys(trained))


def jobs_of(study: Study) -> Iterator[tuple[str, Given]]:
    """Yield the step and the wildcards of every job of a study, what it rests on before it."""
    seen = set[Path]()
    for step, given in _jobs_of_cells(study):
        receipt = path(study, STEPS[step].receipt, given)
        if receipt not in seen:
            seen.add(receipt)
            yield step, given


def _jobs_of_cells(study: Study) -> Iterator[tuple[str, Given]]:
    """Yield what each cell needs: a job that several need comes several times."""
    for cell in study_cells(study):
        given, entry = cell._asdict(), study.dataset(cell.dataset)
        if not entry.in_place:
            yield "fetch_data", {"archive": entry.archive}
        yield "prepare_images", given
        if study.card(cell.dataset).layout.tells_masks:
            yield "prepare_masks", given
        for training in trainings_of(study, cell):
            words = _encoded(study, cell.dataset, training.variant)
            yield "fetch_weights", words
            yield "extract_features", given | words
            yield "train_model", training._asdict()
        table = table_of(study, cell)
        fused = bool(study.variant(table.variant).members)
        yield "fuse_scores" if fused else "score_images", table._asdict()
        yield "evaluate_scores", table._asdict()


def _encoded(study: Study, dataset: str, variant: str) -> dict[str, str]:
    """Return the words that name the features of a variant: of z's stages and the decoder's."""
    settings = study.fit_settings(dataset, variant)
    stages = settings.stages_of(study.variant(variant).method)
    return {"encoder": settings.encoder.name, "stages": "-".join(map(str, stages))}


def statistics_of(study: Study, cell: Cell) -> Cell:
    """Return the cell whose score table has the complexity of the same images."""
    variant = next(v for v in study.variants_on(cell.dataset) if v.method == Method.GRADIENT)
    return table_of(study, cell._replace(variant=variant.name))


def encoder_of(study: Study, dataset: str, variant: str) -> str | None:
    """Return `<encoder>-stage<k>`, of several `-stage<k>-<l>`; None: it sees no encoder."""
    method = study.variant(variant).method
    return study.cell(dataset, variant).encoder.stage_name if method.encoded else None


def asked(study: Study, step: str, given: Given) -> Asked:
    """Return what a step may know of the configuration; `given` are the job's wildcards."""
    dataset, variant = given.get("dataset", ""), given.get("variant", "")
    match step:
        case "fetch_data":
            entry = study.entry_of(given["archive"])
            return FetchAsked(
                card=study.card(entry.name),
                source=entry.source,
                sha256=entry.sha256,
                seen=entry.seen and entry.seen.archive,
            )
        case "prepare_images" | "prepare_masks":
            entry, category = study.dataset(dataset), given["category"]
            seen = getattr(entry.seen, step.removeprefix("prepare_"), {})
            return PrepareAsked(
                dataset=dataset,
                category=category,
                data=study.data,
                card=study.card(dataset),
                source=entry.place if entry.in_place else None,
                seen=seen.get(category),
            )
        case "fetch_weights":
            return WeightsAsked(encoder=given["encoder"])
        case "extract_features":
            return FeaturesAsked(
                stages=[int(stage) for stage in given["stages"].split("-")],
                max_cache_gib=study.max_cache_gib,
                threads=study.training.threads,
            )
        case "train_model" | "score_images":
            method = study.variant(variant).method
            settings = study.fit_settings(dataset, variant)
            if step == "train_model":
                return FitAsked(method=method, settings=settings, seed=int(given["seed"]))
            readers = study.readers(dataset, variant)
            shares = {study.cell(dataset, name).score.top_share for name in readers}
            maps = {study.map_of(dataset, name) for name in readers}
            return ScoreAsked(
                method=method,
                settings=settings,
                fpr_limit=study.evaluation.fpr_limit,
                top_shares=sorted(shares),
                maps=sorted(filter(None, maps)),
            )
        case "fuse_scores":
            cell = Cell(dataset, given["category"], variant, int(given["seed"]))
            ensemble = len(study.variant(variant).members) == 1
            members = [
                MemberAsked(
                    name=f"seed{member.seed}" if ensemble else member.variant,
                    method=study.variant(member.variant).method,
                    score=study.cell(dataset, member.variant).score,
                )
                for member in members_of(study, cell)
            ]
            return FuseAsked(members=members)
        case "evaluate_scores":
            judged = {
                name: VariantAsked(
                    method=study.variant(name).method,
                    encoder=encoder_of(study, dataset, name),
                    map=study.map_of(dataset, name),
                    score=study.cell(dataset, name).score,
                    threshold=study.cell(dataset, name).threshold,
                )
                for name in study.readers(dataset, variant)
            }
            return JudgeAsked(variants=judged, evaluation=study.evaluation)
    raise ValueError(f"there is no step {step}")


def reads(study: Study, step: str, given: Given) -> dict[str, Path | list[Path]]:
    """Return the files that a step reads, by the names of its script's parameters.

    Arguments as of `asked`. A file that a method has no use for is left out.

    Raises:
        ConfigError: there is no such cell, or it shares the files of another.
    """
    dataset = given.get("dataset", "")
    match step:
        case "fetch_data" | "fetch_weights":
            return {}
        case "prepare_images" | "prepare_masks":
            archive = () if study.dataset(dataset).in_place else ("archive",)
            index = ("index",) if step == "prepare_masks" else ()
            return _named(study, given, *archive, *index)
        case "extract_features":
            return _named(study, given, "images", "weights")
    cell = _own_cell(study, given)
    found: dict[str, Path | list[Path]]
    match step:
        case "train_model":
            return _named(study, given, "images", "index", "features", "weights")
        case "score_images":
            fitted = study.variant(cell.variant).method.fitted
            more = ("features", "weights", "model", "trained") if fitted else ()
            masks = ("masks",) if study.card(dataset).layout.tells_masks else ()
            return _named(study, given, "images", "index", *masks, *more)
        case "fuse_scores":
            members = members_of(study, cell)
            found = {"members": [path(study, "scores", table_of(study, m)) for m in members]}
            corrected = [member.variant for member in members]
        case _:
            found = _named(study, given, "scores", "scored", "prepared")
            found["trained"] = [path(study, "trained", t) for t in trainings_of(study, cell)]
            corrected = study.readers(cell.dataset, cell.variant)
    if any(study.cell(cell.dataset, name).score.correct != "none" for name in corrected):
        found["statistics"] = path(study, "scores", statistics_of(study, cell))
    return found


def _own_cell(study: Study, given: Given) -> Cell:
    cell = Cell(given["dataset"], given["category"], given["variant"], int(given["seed"]))
    table = table_of(study, cell)
    if table != cell:
        this, other = (CELL.format(**named._asdict()) for named in (cell, table))
        raise ConfigError(f"{this} shares the files of {other}: ask for those.")
    return cell


def _named(study: Study, given: Given, *names: str) -> dict[str, Path | list[Path]]:
    return {name: path(study, name, given) for name in names}


def receipts(study: Study, step: str, given: Given) -> Iterator[tuple[Path, Path]]:
    """Yield (file, the receipt that names it) for the payload that a step reads."""
    for name in reads(study, step, given):
        if name in PAYLOAD:
            yield path(study, name, given), path(study, RECEIPTS[name], given)


def digest_of_shown(study: Study) -> str:
    """Return a digest of what tables, figures and the page may know of the configuration.

    All of it but where images come from and how they are prepared, which metrics tell, and who
    else is told.
    """
    entry = {"source", "sha256", "seen"}
    places: Any = {"datasets": {"__all__": entry}, "data": True, "max_cache_gib": True}
    places["loggers"] = True
    text = study.model_dump_json(exclude=places)
    categories = [study.categories(dataset.name) for dataset in study.datasets]
    return hashlib.sha256(f"{text} {categories}".encode()).hexdigest()[:16]
