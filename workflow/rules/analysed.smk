# Which cells the analyses of stored scores read.


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
