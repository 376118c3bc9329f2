# Names and paths that the rules share. The configuration is validated here, before any job.
import json
import re
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from aeflow.cards import ENCODER_CARDS, load_dataset_card, load_encoder_card
from aeflow.config import Study
from aeflow.errors import AeflowError
from aeflow.provenance import code_digest
from aeflow.validation import validate

try:
    STUDY = validate(Study, config, "configuration")
    CARDS = {entry.name: load_dataset_card(entry.name) for entry in STUDY.datasets}
    for entry in STUDY.datasets:
        CARDS[entry.name].check_categories(entry.categories)
except AeflowError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{STUDY.study}"
CELL = "{dataset}/{category}/{variant}/seed{seed}"
TRAINED = [v.name for v in STUDY.variants if v.method != "gradient"]
BASELINES = [v.name for v in STUDY.variants if v.method == "gradient"]


def one_of(names):
    """Return a regular expression that matches these names and nothing else."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
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
