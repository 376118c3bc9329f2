# What rules read and how their parameters come about, up to the metrics.


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


def encoder_identity(encoder):
    """Return what tells one file of weights from another: the card's facts but its source."""
    if not (ENCODER_CARDS / f"{encoder}.yaml").is_file():
        return encoder
    card = load_encoder_card(encoder)
    return f"{card.library} {card.architecture} {card.weights.sha256} {card.mean} {card.sd}"


def encoder_files(wildcards, kind):
    encoder = STUDY.fit_settings(wildcards.dataset, wildcards.variant).encoder
    stage = f"{encoder.stage_name}/{wildcards.dataset}/{wildcards.category}"
    return {
        "features": f"data/features/{stage}.npy",
        "manifest": f"data/manifests/features/{stage}.json",
        "weights": f"data/weights/{encoder.name}.safetensors",
    }[kind]


def members(wildcards):
    """Return the cells whose scores a fusion's are made from."""
    names = STUDY.variant(wildcards.variant).members
    return [cell_of(wildcards)._replace(variant=name) for name in names]


def members_as_json(wildcards):
    """Return each member's score files, and what turns its components into its score."""
    content = [
        {
            "name": cell.variant,
            "method": STUDY.variant(cell.variant).method,
            "score": STUDY.cell(cell.dataset, cell.variant).score.model_dump(mode="json"),
            "scores": score_table(cell),
            "scored": scored(cell),
        }
        for cell in members(wildcards)
    ]
    return json.dumps(content, sort_keys=True)


def train_summaries(wildcards):
    trained = trainings_of(STUDY, cell_of(wildcards))
    return [str(cell.file(Path(RESULTS, "train"), "json")) for cell in trained]


def identity(wildcards):
    return json.dumps(identity_of(STUDY, cell_of(wildcards)), sort_keys=True)


def judging(wildcards):
    return json.dumps(judging_of(STUDY, cell_of(wildcards)), sort_keys=True)
