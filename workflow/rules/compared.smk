# What the comparisons of variants read.

from aeflow.validation import load_yaml

# Candidates of the choice by validation: our methods, ablations too; no peers, no baseline.
CANDIDATES = {v.name for v in STUDY.all_variants if v.method.trained} | set(FUSIONS)
COMPARED = [cell for cell in CELLS if cell.variant in NAMED]
CHOOSABLE = [cell for cell in CELLS if cell.variant in CANDIDATES]


def tables_of(cells):
    """Return the score tables behind cells, each once: variants of one training share them."""
    return list(dict.fromkeys(map(score_table, cells)))


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
