# From a dataset's source to one array of its images.


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


rule fetch_data:
    output:
        archive="data/raw/{archive}.zip",
        manifest="data/manifests/raw/{archive}.json",
    log:
        "results/logs/fetch_data/{archive}.log",
    benchmark:
        "results/benchmarks/fetch_data/{archive}.tsv"
    resources:
        source=lambda wildcards: source_options(wildcards.archive),
    params:
        code=code("fetch_data"),
        identity=lambda wildcards: archive_identity(wildcards.archive),
        card=lambda wildcards: card_options(ARCHIVES[wildcards.archive], "edition"),
    message:
        "Fetch {wildcards.archive}"
    shell:
        "python scripts/fetch_data.py {params.card} {resources.source}"
        " --archive {output.archive} --manifest {output.manifest} --log {log}"


rule prepare_images:
    input:
        manifest=lambda wildcards: archive_files(wildcards.dataset)["manifest"],
        archive=lambda wildcards: ancient(archive_files(wildcards.dataset)["archive"]),
    output:
        images="data/prepared/{dataset}/{category}/images.npy",
        masks="data/prepared/{dataset}/{category}/masks.npy",
        index="data/prepared/{dataset}/{category}/index.csv",
        manifest="data/manifests/prepared/{dataset}/{category}.json",
    log:
        "results/logs/prepare_images/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/prepare_images/{dataset}/{category}.tsv"
    threads: 2
    params:
        code=code("prepare_images"),
        settings=as_json(STUDY.data),
        layout=lambda wildcards: as_json(CARDS[wildcards.dataset], "layout", "counts", "split"),
        card=lambda wildcards: card_options(wildcards.dataset, "edition", "split"),
    message:
        "Prepare the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python scripts/prepare_images.py --dataset {wildcards.dataset} {params.card}"
        " --category {wildcards.category} --settings {params.settings:q}"
        " --archive {input.archive} --images {output.images} --masks {output.masks}"
        " --index {output.index} --manifest {output.manifest} --workers {threads} --log {log}"
