# From a dataset's source to one array of its images.


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
