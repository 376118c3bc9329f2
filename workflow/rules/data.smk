# From a dataset's source to one array of its images.


def archive_identity(dataset):
    """Return what tells one archive from another: its bytes where they are known, not its place.

    A new mirror of the same file then reruns nothing.
    """
    entry, card = STUDY.dataset(dataset), CARDS[dataset]
    if entry.source is not None:
        return entry.sha256 or entry.source
    return card.generator or card.archive.sha256 or card.archive.name


def source_options(dataset):
    entry = STUDY.dataset(dataset)
    options = {"--source": entry.source, "--sha256": entry.sha256}
    return " ".join(f"{key} {shlex.quote(value)}" for key, value in options.items() if value)


rule fetch_data:
    output:
        archive="data/raw/{dataset}.zip",
        manifest="data/manifests/raw/{dataset}.json",
    params:
        code=code("fetch_data"),
        identity=lambda wildcards: archive_identity(wildcards.dataset),
    resources:
        source=lambda wildcards: source_options(wildcards.dataset),
    log:
        "results/logs/fetch_data/{dataset}.log",
    benchmark:
        "results/benchmarks/fetch_data/{dataset}.tsv"
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "python scripts/fetch_data.py --dataset {wildcards.dataset} {resources.source}"
        " --archive {output.archive} --manifest {output.manifest} --log {log}"


rule prepare_images:
    input:
        manifest="data/manifests/raw/{dataset}.json",
        archive=ancient("data/raw/{dataset}.zip"),
    output:
        images="data/prepared/{dataset}/{category}/images.npy",
        masks="data/prepared/{dataset}/{category}/masks.npy",
        index="data/prepared/{dataset}/{category}/index.csv",
        manifest="data/manifests/prepared/{dataset}/{category}.json",
    params:
        code=code("prepare_images"),
        settings=as_json(STUDY.data),
        layout=lambda wildcards: as_json(CARDS[wildcards.dataset], "layout", "counts"),
    threads: 2
    log:
        "results/logs/prepare_images/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/prepare_images/{dataset}/{category}.tsv"
    message:
        "Prepare the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python scripts/prepare_images.py --dataset {wildcards.dataset}"
        " --category {wildcards.category} --settings {params.settings:q}"
        " --archive {input.archive} --images {output.images} --masks {output.masks}"
        " --index {output.index} --manifest {output.manifest} --workers {threads} --log {log}"
