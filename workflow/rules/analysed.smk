# Which cells the analyses of stored scores read, and how their scores come about.

from aeflow.core.schema import load_yaml

# Candidates of the choice by validation: our methods, ablations too; no peers, no baseline.
CANDIDATES = {v.name for v in STUDY.all_variants if v.method.trained} | set(FUSIONS)
COMPARED = [cell for cell in CELLS if cell.variant in NAMED]
CHOOSABLE = [cell for cell in CELLS if cell.variant in CANDIDATES]


def swept_cells():
    """Return the cells of every training of the method aeflow that a named variant uses."""
    return [
        c for c in SCORED if c.variant in NAMED and STUDY.variant(c.variant).method == "aeflow"
    ]


def ensemble_cells():
    """Return the cells whose seeds are made an ensemble."""
    return [cell for cell in CELLS if cell.variant in STUDY.ensembles]


def trained_names(cells):
    """Return {dataset: {variant: the variant whose score tables stand for it}} as JSON."""
    names = {}
    for cell in cells:
        trained = STUDY.trained_as(cell.dataset, cell.variant)
        names.setdefault(cell.dataset, {})[cell.variant] = trained
    return json.dumps(names, sort_keys=True)


def ablated_datasets():
    """Return the datasets on which an ablation runs."""
    return list(dict.fromkeys(row["dataset"] for row in ablation_rows(STUDY)))


def complexity_of(dataset, category):
    return f"{RESULTS}/complexity/{dataset}/{category}.csv"


def explained():
    """Return the cells whose scores are explained: those of the named variants."""
    return [cell for dataset in CARDS for cell in cells_of(dataset)]


def scorings(cells):
    """Return how the score of each variant comes about, variants of equal settings together."""
    groups = {}
    for dataset, variant in dict.fromkeys((cell.dataset, cell.variant) for cell in cells):
        settings = {
            "dataset": dataset,
            "method": STUDY.variant(variant).method,
            # The map is for pixels alone.
            "score": STUDY.cell(dataset, variant).score.model_dump(mode="json", exclude={"map"}),
        }
        tables = groups.setdefault(json.dumps(settings, sort_keys=True), {})
        tables[variant] = STUDY.trained_as(dataset, variant)
    content = [json.loads(settings) | {"tables": groups[settings]} for settings in groups]
    return json.dumps(content, separators=(",", ":"))


def with_categories():
    """Return the datasets with several categories."""
    return [dataset for dataset in CARDS if len(categories(dataset)) > 1]


def with_published_numbers():
    """Return the datasets whose card has numbers in config/published.yaml."""
    numbers = load_yaml(Path("config/published.yaml")).get("numbers") or []
    cards = {number.get("dataset") for number in numbers}
    return [entry.name for entry in STUDY.datasets if entry.card_name in cards]
