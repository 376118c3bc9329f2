# Names and paths that the rules share. The configuration is validated here, before any job.
import json
import re
import shlex
import sys
from pathlib import Path

from aeflow.cards import ENCODER_CARDS, check_encoders, load_encoder_card
from aeflow.config import Study
from aeflow.errors import AeflowError
from aeflow.files import check_writable
from aeflow.provenance import code_digest
from aeflow.validation import validate

try:
    STUDY = validate(Study, config, "configuration")
    CARDS = STUDY.load_cards()
    used = {
        STUDY.cell(d.name, v.name).encoder.name for d in STUDY.datasets for v in STUDY.variants
    }
    check_encoders(sorted(used), Path("data/manifests/weights"))
except AeflowError as error:
    # Not raised: a dry run would report it on stdout.
    sys.exit(str(error))

RESULTS = f"results/{STUDY.study}"
# Name of each archive -> the first dataset of the study that reads it.
ARCHIVES = {entry.archive: entry.name for entry in reversed(STUDY.datasets)}
CELL = "{dataset}/{category}/{variant}/seed{seed}"
TRAINED = [v.name for v in STUDY.variants if v.method.trained]
BASELINES = [v.name for v in STUDY.variants if not v.method.trained]


def one_of(names):
    """Return a regular expression that matches these names and nothing else."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    archive=one_of(ARCHIVES),
    dataset=one_of(CARDS),
    category=one_of(sorted({name for card in CARDS.values() for name in card.categories})),
    variant=one_of(v.name for v in STUDY.variants),
    seed=one_of(STUDY.seeds),
    encoder="[A-Za-z0-9_.-]+",
    stage="[1-6]",


def categories(dataset):
    return STUDY.dataset(dataset).categories or CARDS[dataset].categories


def cells():
    """Return every (dataset, category, variant, seed) of the study."""
    return [
        (dataset, category, variant.name, seed)
        for dataset in CARDS
        for category in categories(dataset)
        for variant in STUDY.variants
        for seed in STUDY.seeds_of(variant.name)
    ]


def trained_cells():
    """Return the cells whose scores stand for all variants with the same training."""
    return [cell for cell in cells() if STUDY.trained_as(cell[0], cell[2]) == cell[2]]


def code(rule):
    """Return a digest of a rule's script and of the modules that shape its numbers."""
    return code_digest(Path("scripts") / f"{rule}.py")


def as_json(settings, *keys):
    """Return settings, or some of their keys, as a rule's script wants them."""
    content = settings.model_dump(mode="json", include=set(keys) if keys else None)
    return json.dumps(content, sort_keys=True)


def score_table(dataset, category, variant, seed):
    trained = STUDY.trained_as(dataset, variant)
    return f"{RESULTS}/scores/{dataset}/{category}/{trained}/seed{seed}.csv"


def metrics_of(dataset, category, variant, seed):
    return f"{RESULTS}/metrics/{dataset}/{category}/{variant}/seed{seed}.json"


def check_output_folders():
    """End with a sentence where no rule could write; Snakemake would end with a traceback."""
    outputs = [str(path) for rule in workflow.rules for path in rule.output]
    try:
        # Up to the first wildcard, folders are the same for all jobs of a rule.
        for folder in sorted({Path(path.partition("{")[0] + "x").parent for path in outputs}):
            check_writable(folder)
    except AeflowError as error:
        sys.exit(str(error))


# For data.smk


def archive_files(dataset):
    archive = STUDY.dataset(dataset).archive
    return {
        "archive": f"data/raw/{archive}.zip",
        "manifest": f"data/manifests/raw/{archive}.json",
    }


def archive_identity(archive):
    """Return what tells one archive from another: its bytes where they are known, not its place.

    A new mirror of the same file then reruns nothing.
    """
    entry, card = STUDY.dataset(ARCHIVES[archive]), CARDS[ARCHIVES[archive]]
    conversion = f" {as_json(card.conversion)}" if card.conversion else ""
    if entry.source is not None:
        return (entry.sha256 or entry.source) + conversion
    facts = [file.sha256 or file.md5 or file.name for file in card.files]
    return (card.generator or " ".join(facts)) + conversion


def source_options(archive):
    entry = STUDY.dataset(ARCHIVES[archive])
    return options({"source": entry.source, "sha256": entry.sha256})


def card_options(dataset, *keys):
    """Return the options that name a dataset's card, and those of `keys` that are set."""
    entry = STUDY.dataset(dataset)
    return options({"card": entry.card_name} | {key: getattr(entry, key) for key in keys})


def options(values):
    return " ".join(f"--{key} {shlex.quote(value)}" for key, value in values.items() if value)


# For features.smk


def encoder_identity(encoder):
    """Return what tells one file of weights from another: the card's facts but its source."""
    if not (ENCODER_CARDS / f"{encoder}.yaml").is_file():
        return encoder
    card = load_encoder_card(encoder)
    return f"{card.library} {card.architecture} {card.weights.sha256} {card.mean} {card.sd}"


# For training.smk


def encoder_files(wildcards, kind):
    encoder = STUDY.fit_settings(wildcards.dataset, wildcards.variant).encoder
    stage = f"{encoder.name}-stage{encoder.stage}/{wildcards.dataset}/{wildcards.category}"
    return {
        "features": f"data/features/{stage}.npy",
        "manifest": f"data/manifests/features/{stage}.json",
        "weights": f"data/weights/{encoder.name}.safetensors",
    }[kind]


# For evaluation.smk


def scores_of(wildcards, ending):
    table = score_table(wildcards.dataset, wildcards.category, wildcards.variant, wildcards.seed)
    return str(Path(table).with_suffix(ending))


def train_summary(wildcards):
    """Return the summary of the training behind a cell, where there is one."""
    if wildcards.variant in BASELINES:
        return []
    trained = STUDY.trained_as(wildcards.dataset, wildcards.variant)
    cell = f"{wildcards.dataset}/{wildcards.category}/{trained}/seed{wildcards.seed}"
    return [f"{RESULTS}/train/{cell}.json"]


def identity(wildcards):
    variant = STUDY.variant(wildcards.variant)
    encoder = STUDY.cell(wildcards.dataset, variant.name).encoder
    trained = variant.method.trained
    content = {
        "study": STUDY.study,
        "dataset": wildcards.dataset,
        "category": wildcards.category,
        "variant": variant.name,
        "method": variant.method,
        "seed": int(wildcards.seed),
        "encoder": f"{encoder.name}-stage{encoder.stage}" if trained else None,
    }
    return json.dumps(content, sort_keys=True)


def judging(wildcards):
    cell = STUDY.cell(wildcards.dataset, wildcards.variant).model_dump(mode="json")
    content = {"score": cell["score"], "threshold": cell["threshold"]}
    content["evaluation"] = STUDY.evaluation.model_dump(mode="json")
    return json.dumps(content, sort_keys=True)


# For reporting.smk


FIGURES = f"{RESULTS}/figures"
HUMAN_TABLES = [f"{name}.{ending}" for name in ("results", "main") for ending in ("md", "tex")]
HUMAN_TABLES += [f"claims.{ending}" for ending in ("csv", "md", "tex")]
TABLES = [f"{RESULTS}/tables/{name}" for name in ["results.csv", "main.csv", *HUMAN_TABLES]]
COLUMN = "{dataset}-{category}-{variant}"
STYLE = "aeflow/reporting/style.mplstyle"


def trained_columns():
    """Return every (dataset, category, variant) that was trained, each once."""
    return list(dict.fromkeys(cell[:3] for cell in trained_cells() if cell[2] in TRAINED))


def figures():
    names = [f"roc-{dataset}" for dataset in CARDS]
    for cell in trained_columns():
        names += [f"{kind}-{'-'.join(cell)}" for kind in ("panels", "scores", "training")]
    return [f"{FIGURES}/{name}.{ending}" for name in names for ending in ("svg", "png")]


def report_figures():
    """Return the figures of the report: lines as vectors, photographs as pixels."""
    return [path for path in figures() if path.endswith(".png") == ("panels-" in path)]


def card_entries():
    """Return what the report needs to find the cards."""
    keys = {"name", "card", "edition", "split"}
    return json.dumps([entry.model_dump(include=keys) for entry in STUDY.datasets], sort_keys=True)


def seeds_of_column(pattern):
    """Return a function that expands a path over the seeds of a variant."""
    return lambda wildcards: [
        pattern.format(**wildcards, seed=seed) for seed in STUDY.seeds_of(wildcards.variant)
    ]


def first_seed(pattern):
    return lambda w: pattern.format(**w, seed=STUDY.seeds_of(w.variant)[0])
