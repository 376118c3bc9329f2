# What the ablations and the explanations of failures are made from.


def ablated_datasets():
    """Return the datasets on which an ablation runs."""
    return list(dict.fromkeys(row["dataset"] for row in ablation_rows(STUDY)))


def complexity_of(dataset, category):
    return f"{RESULTS}/complexity/{dataset}/{category}.csv"


def explained():
    """Return the cells whose scores are explained: those of the named variants."""
    return [cell for dataset in CARDS for cell in cells_of(dataset)]


def trained_names():
    """Return JSON: dataset: named variant: the variant whose score tables it has."""
    names = {
        dataset: {
            variant.name: STUDY.trained_as(dataset, variant.name)
            for variant in STUDY.variants_on(dataset)
            if variant.name in NAMED
        }
        for dataset in CARDS
    }
    return json.dumps(names, sort_keys=True)
