# Names and paths that the rules share. The configuration is validated here, before any job.
import gc
import importlib.util
import json
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from aeflow.study.ablations import ablation_rows
from aeflow.study.cards import ENCODER_CARDS, check_encoders, load_encoder_card
from aeflow.study.cells import (
    Cell,
    identity_of,
    judging_of,
    pack_cells,
    scored_as,
    study_cells,
    trainings_of,
)
from aeflow.study.study import Study
from aeflow.core.errors import AeflowError, ConfigError
from aeflow.core.files import check_writable
from aeflow.core.code_digest import code_digest
from aeflow.core.schema import validate

# The objects of a plan live on: looking for garbage took a fifth of a large plan's time.
gc.set_threshold(100_000)

try:
    STUDY = validate(Study, config, "configuration")
    CARDS = STUDY.load_cards()
    used = {
        STUDY.cell(entry.name, variant.name).encoder.name
        for entry in STUDY.datasets
        for variant in STUDY.variants_on(entry.name)
    }
    check_encoders(sorted(used), Path("data/manifests/weights"))
    PEERS = [v.name for v in STUDY.all_variants if v.method.peer]
    if PEERS and importlib.util.find_spec("anomalib") is None:
        raise ConfigError(
            f"variants[{PEERS[0]}].method needs anomalib, which is not installed: "
            "run `make peers`, or leave the variant out."
        )
except AeflowError as error:
    # Not raised: a dry run would report it on stdout.
    sys.exit(str(error))

RESULTS = f"results/{STUDY.study}"
# Name of each archive -> the first dataset of the study that reads it.
ARCHIVES = {entry.archive: entry.name for entry in reversed(STUDY.datasets)}
CELL = "{dataset}/{category}/{variant}/seed{seed}"
TRAINED = [v.name for v in STUDY.all_variants if v.method.trained]
UNTRAINED = [v.name for v in STUDY.all_variants if not v.method.trained]
BASELINES = [v.name for v in STUDY.all_variants if v.method == "gradient"]
FUSIONS = [v.name for v in STUDY.all_variants if v.method == "fusion"]


def one_of(names):
    """Return a regular expression that matches these names and nothing else."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def none_of(names):
    """Return a regular expression that matches every folder's name but these.

    Instead of `one_of` a thousand others: Snakemake rewrites a rule's patterns, constraints
    included, several times for each job.
    """
    return f"(?!(?:{one_of(names)})/)[A-Za-z0-9_.-]+"


wildcard_constraints:
    archive=one_of(ARCHIVES),
    dataset=one_of(CARDS),
    category=one_of(sorted({name for card in CARDS.values() for name in card.categories})),
    variant="[A-Za-z0-9_.-]+",  # not a thousand names, see none_of
    seed=one_of(STUDY.seeds),
    encoder="[A-Za-z0-9_.-]+",
    stage="[1-6]",


def categories(dataset):
    return STUDY.dataset(dataset).categories or CARDS[dataset].categories


# Every cell of the study, and those whose scores stand for all variants with the same training.
CELLS = study_cells(STUDY, CARDS)
SCORED = [cell for cell in CELLS if STUDY.trained_as(cell.dataset, cell.variant) == cell.variant]
# Those of the variants that the configuration names one by one, not of its ablations.
NAMED = {variant.name for variant in STUDY.variants}


def cells_of(dataset):
    """Return the cells of a dataset's named variants."""
    return [cell for cell in CELLS if cell.dataset == dataset and cell.variant in NAMED]


@cache
def digest(rule):
    """Return a digest of a rule's script and of the modules that shape its numbers."""
    return code_digest(Path("scripts") / f"{rule}.py")


def code(rule):
    """Return the parameter that holds a rule's digest: on a cluster each job reads all rules."""
    return lambda wildcards: digest(rule)


def as_json(settings, *keys):
    """Return settings, or some of their keys, as a rule's script wants them."""
    content = settings.model_dump(mode="json", include=set(keys) if keys else None)
    return json.dumps(content, sort_keys=True)


def metrics_of(cell):
    return str(cell.file(Path(RESULTS, "metrics"), "json"))


def check_output_folders():
    """End with a sentence where no rule could write; Snakemake would end with a traceback."""
    outputs = [str(path) for rule in workflow.rules for path in rule.output]
    try:
        # Up to the first wildcard, folders are the same for all jobs of a rule.
        for folder in sorted({Path(path.partition("{")[0] + "x").parent for path in outputs}):
            check_writable(folder)
    except AeflowError as error:
        sys.exit(str(error))


def cell_of(wildcards):
    return Cell(wildcards.dataset, wildcards.category, wildcards.variant, int(wildcards.seed))
