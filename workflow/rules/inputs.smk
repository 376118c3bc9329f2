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
    stage = f"{encoder.name}-stage{encoder.stage}/{wildcards.dataset}/{wildcards.category}"
    return {
        "features": f"data/features/{stage}.npy",
        "manifest": f"data/manifests/features/{stage}.json",
        "weights": f"data/weights/{encoder.name}.safetensors",
    }[kind]


def member_tables(wildcards):
    members = STUDY.variant(wildcards.variant).members
    return [score_table(cell_of(wildcards)._replace(variant=name)) for name in members]


def members_as_json(wildcards):
    """Return what turns each member's components into its score."""
    members = [
        {
            "name": name,
            "method": STUDY.variant(name).method,
            "score": STUDY.cell(wildcards.dataset, name).score.model_dump(mode="json"),
        }
        for name in STUDY.variant(wildcards.variant).members
    ]
    return json.dumps(members, sort_keys=True)


def scores_of(wildcards, ending):
    return str(Path(score_table(cell_of(wildcards))).with_suffix(ending))


def train_summaries(wildcards):
    """Return the summaries of the trainings behind a cell: none, one, or those of its members."""
    cell, variant = cell_of(wildcards), STUDY.variant(wildcards.variant)
    if variant.method == "gradient":
        return []
    if variant.method == "fusion":
        members = [cell._replace(variant=name) for name in variant.members]
        members = [member for member in members if member.variant not in BASELINES]
    else:
        members = [cell]
    trained = [m._replace(variant=STUDY.trained_as(m.dataset, m.variant)) for m in members]
    return [str(member.file(Path(RESULTS, "train"), "json")) for member in dict.fromkeys(trained)]


def identity(wildcards):
    variant = STUDY.variant(wildcards.variant)
    encoder = STUDY.cell(wildcards.dataset, variant.name).encoder
    encoded = variant.method.trained or (variant.method.peer and variant.method != "ganomaly")
    content = {
        "study": STUDY.study,
        "dataset": wildcards.dataset,
        "category": wildcards.category,
        "variant": variant.name,
        "method": variant.method,
        "seed": int(wildcards.seed),
        "encoder": f"{encoder.name}-stage{encoder.stage}" if encoded else None,
    }
    return json.dumps(content, sort_keys=True)


def judging(wildcards):
    cell = STUDY.cell(wildcards.dataset, wildcards.variant).model_dump(mode="json")
    content = {"score": cell["score"], "threshold": cell["threshold"]}
    content["evaluation"] = STUDY.evaluation.model_dump(mode="json")
    return json.dumps(content, sort_keys=True)
