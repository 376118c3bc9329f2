# The study, validated before any job, and what all rules share.
import gc
import importlib.util
import json
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from aeflow.core.code_digest import code_digest
from aeflow.core.errors import AeflowError, ConfigError
from aeflow.core.schema import validate
from aeflow.data.local_sources import see_sources
from aeflow.report import contents
from aeflow.study import cells
from aeflow.study.cards import check_encoders
from aeflow.study.study import Study, read_study

# The objects of a plan live on: looking for garbage took a fifth of a large plan's time.
gc.set_threshold(100_000)

try:
    STUDY = validate(Study, config, "configuration")
    STUDY_FILE = cells.path(STUDY, "study", {})
    # A job on a cluster's node goes by what the run saw, and looks at no source.
    seen = not workflow.is_main_process and STUDY_FILE.exists()
    STUDY = read_study(STUDY_FILE) if seen else see_sources(STUDY)
    CELLS = cells.study_cells(STUDY)
    used = {STUDY.cell(c.dataset, c.variant).encoder.name for c in CELLS}
    check_encoders(sorted(used), Path("data/receipts/weights"))
    # Results that somebody handed over need no peer.
    owed = {
        c.variant: STUDY.variant(c.variant).method.file
        for c in CELLS
        if STUDY.variant(c.variant).method.peer
        and not cells.path(STUDY, "scored", cells.table_of(STUDY, c)).exists()
    }
    theirs = [name for name, file in owed.items() if "from anomalib" in file.read_text()]
    if theirs and importlib.util.find_spec("anomalib") is None:
        raise ConfigError(
            f"variants[{theirs[0]}].method needs anomalib, which is not installed: "
            "run `make peers`, or leave the variant out."
        )
    if STUDY.loggers:
        from aeflow.report.loggers import check_loggers, log_inputs

        check_loggers(STUDY)
except AeflowError as error:
    # Not raised: a dry run would report it on stdout.
    sys.exit(str(error))

RESULTS = f"results/{STUDY.study}"
TABLES = cells.score_tables(STUDY)  # the cells that have a score table of their own
METHODS = {variant.name: variant.method for variant in STUDY.all_variants}
CELL = cells.CELL
SHOWN = cells.digest_of_shown(STUDY)
FUSIONS = [name for name, method in METHODS.items() if method == "fusion"]


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
    archive=one_of(dict.fromkeys(e.archive for e in STUDY.datasets if not e.in_place)),
    dataset=one_of(entry.name for entry in STUDY.datasets),
    category=one_of(sorted({cell.category for cell in CELLS})),
    variant="[A-Za-z0-9_.-]+",  # not a thousand names, see none_of
    seed=one_of(STUDY.seeds),
    encoder="[A-Za-z0-9_.-]+",
    stages="[1-6](-[1-6])*",
    table=one_of(contents.TABLES),
    figure=one_of(contents.FIGURES),
    logger=one_of(STUDY.loggers),
    of=r"[A-Za-z0-9_.+-]+",


def pattern(name):
    """Return the pattern of a path, with wildcards."""
    return cells.PATHS[name].replace("{study}", STUDY.study)


def made(step):
    """Return what a step makes, by name, its receipt among them."""
    names = (*cells.STEPS[step].makes, cells.STEPS[step].receipt)
    return {name: pattern(name) for name in names}


def read(step):
    """Return the input function of a step.

    Payload is ancient: its receipt, an input as any other, tells whether it has changed. So a clone
    without it, or with other times, has nothing to do.
    """

    def files(wildcards):
        found = {
            name: ancient(str(paths)) if name in cells.PAYLOAD else strings(paths)
            for name, paths in cells.reads(STUDY, step, wildcards).items()
        }
        named = [str(receipt) for _, receipt in cells.receipts(STUDY, step, wildcards)]
        return found | {"receipts": list(dict.fromkeys(named))}

    return unpack(files)


def strings(paths):
    return [str(path) for path in paths] if isinstance(paths, list) else str(paths)


def asked(step):
    """Return the parameter that records what a step may know of the configuration."""
    return lambda w: json.dumps(cells.asked(STUDY, step, w).as_json(), sort_keys=True)


def of(wildcards):
    """Return the options that name a job."""
    return "".join(f" --{name} {shlex.quote(value)}" for name, value in wildcards.items())


def run(rule, more=""):
    """Return the command of a rule.

    Its script takes what it may know and its files from the study and the wildcards of the job.
    The study is a resource: in the rule's code or params, another one would make shared data again.
    """
    return f"python scripts/{rule}.py --study {{resources.study:q}}{{params.of}}{more} --log {{log:q}}"


@cache
def digest(*files):
    return code_digest(*files)


def code(rule, *files):
    """Return the parameter that holds the digest of a rule's code."""
    return lambda wildcards: digest(Path("scripts", f"{rule}.py"), *files)


def method_code(rule):
    """Return `code` of a rule, with the file of the job's method and of no other."""
    return lambda w: digest(Path("scripts", f"{rule}.py"), METHODS[w.variant].file)


def threads_of(wildcards):
    if not METHODS[wildcards.variant].fitted:
        return 1
    return STUDY.fit_settings(wildcards.dataset, wildcards.variant).training.threads
