# What the tables, figures and the report are made from.

FIGURES = f"{RESULTS}/figures"
HUMAN_TABLES = [f"{name}.{ending}" for name in ("results", "main") for ending in ("md", "tex")]
HUMAN_TABLES += [f"{name}.{e}" for name in ("claims", "categories") for e in ("csv", "md", "tex")]
TABLES = [f"{RESULTS}/tables/{name}" for name in ["results.csv", "main.csv", *HUMAN_TABLES]]
TABLES += [
    f"{RESULTS}/tables/{t}.{e}" for t in ("comparison", "choice") for e in ("csv", "md", "tex")
]
COLUMN = "{dataset}-{category}-{variant}"
STYLE = "aeflow/reporting/style.mplstyle"


def shown_trainings():
    """Return the trained cells of the named variants."""
    return [cell for cell in SCORED if cell.variant in TRAINED and cell.variant in NAMED]


def trained_columns():
    """Return every (dataset, category, named variant) that was trained, each once."""
    return list(dict.fromkeys(cell[:3] for cell in shown_trainings()))


def figures():
    names = [f"roc-{dataset}" for dataset in CARDS]
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
