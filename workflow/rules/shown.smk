# What the tables, figures and the report are made from.

FIGURES = f"{RESULTS}/figures"
COLUMN = "{dataset}-{category}-{variant}"
STYLE = "aeflow/display/style.mplstyle"


def tables(*names, endings=("csv", "md", "tex")):
    """Return each table as data, for people and for papers."""
    return [f"{RESULTS}/tables/{name}.{ending}" for name in names for ending in endings]


def all_tables():
    judged = ("results", "main", "claims", "categories", "comparison", "choice", "ablations")
    explained = ("weighting", "ensembles", "complexity", "complexity_corrected", "defects")
    return [
        *tables(*judged, *explained),
        *tables("weighting_sweep", "risk", endings=["csv"]),
    ]


def shown_trainings():
    """Return the trained cells of the named variants."""
    return [cell for cell in SCORED if cell.variant in TRAINED and cell.variant in NAMED]


def trained_columns():
    """Return every (dataset, category, named variant) that was trained, each once."""
    return list(dict.fromkeys(cell[:3] for cell in shown_trainings()))


def figures():
    names = [f"roc-{dataset}" for dataset in CARDS]
    names += [f"{kind}-{dataset}" for dataset in CARDS for kind in ("weighting", "risk")]
    names += [f"ablations-{dataset}" for dataset in ablated_datasets()]
    names += [f"{kind}-{dataset}" for dataset in CARDS for kind in ("complexity", "defects")]
    names += [f"variants-{dataset}" for dataset in dict.fromkeys(c.dataset for c in COMPARED)]
    names += [f"categories-{dataset}" for dataset in with_categories()]
    names += [f"claims-{dataset}" for dataset in with_published_numbers()]
    for cell in trained_columns():
        names += [f"{kind}-{'-'.join(cell)}" for kind in ("panels", "scores", "training")]
    return [f"{FIGURES}/{name}.{ending}" for name in names for ending in ("svg", "png")]


def report_figures():
    """Return the figures of the report: lines as vectors, photographs as pixels."""
    return [path for path in figures() if path.endswith(".png") == ("panels-" in path)]


def card_entries():
    """Return what the report needs to find the cards."""
    keys = {"name", "card", "edition", "split", "categories"}
    return json.dumps([entry.model_dump(include=keys) for entry in STUDY.datasets], sort_keys=True)


def seeds_of_column(pattern):
    """Return a function that expands a path over the seeds of a variant."""
    return lambda wildcards: [
        pattern.format(**wildcards, seed=seed) for seed in STUDY.seeds_of(wildcards.variant)
    ]


def first_seed(pattern):
    return lambda w: pattern.format(**w, seed=STUDY.seeds_of(w.variant)[0])
