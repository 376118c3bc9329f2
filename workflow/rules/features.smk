# The pretrained encoder: its weights, and its features of every image.


rule fetch_weights:
    output:
        **made("fetch_weights"),
    log:
        "results/logs/fetch_weights/{encoder}.log",
    benchmark:
        "results/benchmarks/fetch_weights/{encoder}.tsv"
    priority: 2
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("fetch_weights"),
        asked=asked("fetch_weights"),
        of=of,
    message:
        "Fetch the weights of {wildcards.encoder}"
    shell:
        run("fetch_weights")


rule extract_features:
    input:
        read("extract_features"),
    output:
        **made("extract_features"),
    log:
        "results/logs/extract_features/{encoder}-stage{stages}/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/extract_features/{encoder}-stage{stages}/{dataset}/{category}.tsv"
    priority: 1
    threads: STUDY.training.threads
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("extract_features"),
        asked=asked("extract_features"),
        of=of,
    message:
        "Extract {wildcards.encoder}'s features of {wildcards.dataset}, {wildcards.category}"
    shell:
        run("extract_features")
