# From a dataset's source to arrays of its images and masks. Before all else: others wait.

# Not all cores: it would wait until every job of one thread had found its place.
WORKERS = max(1, min(2, (workflow.cores or 3) - 1))


rule fetch_data:
    output:
        **made("fetch_data"),
    log:
        "results/logs/fetch_data/{archive}.log",
    benchmark:
        "results/benchmarks/fetch_data/{archive}.tsv"
    priority: 2
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("fetch_data"),
        asked=asked("fetch_data"),
        of=of,
    message:
        "Fetch {wildcards.archive}"
    shell:
        run("fetch_data")


rule prepare_images:
    input:
        read("prepare_images"),
    output:
        **made("prepare_images"),
    log:
        "results/logs/prepare_images/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/prepare_images/{dataset}/{category}.tsv"
    priority: 2
    threads: WORKERS
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("prepare_images"),
        asked=asked("prepare_images"),
        of=of,
    message:
        "Prepare the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        run("prepare_images", " --workers {threads}")


rule prepare_masks:
    input:
        read("prepare_masks"),
    output:
        **made("prepare_masks"),
    log:
        "results/logs/prepare_masks/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/prepare_masks/{dataset}/{category}.tsv"
    priority: 1
    threads: WORKERS
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("prepare_masks"),
        asked=asked("prepare_masks"),
        of=of,
    message:
        "Prepare the masks of {wildcards.dataset}, {wildcards.category}"
    shell:
        run("prepare_masks", " --workers {threads}")
