# The pretrained encoder: its weights, and its features of every image.


rule fetch_weights:
    output:
        weights="data/weights/{encoder}.safetensors",
        manifest="data/manifests/weights/{encoder}.json",
    log:
        "results/logs/fetch_weights/{encoder}.log",
    benchmark:
        "results/benchmarks/fetch_weights/{encoder}.tsv"
    params:
        code=code("fetch_weights"),
        card=lambda wildcards: encoder_identity(wildcards.encoder),
    message:
        "Fetch the weights of {wildcards.encoder}"
    shell:
        "python scripts/fetch_weights.py --encoder {wildcards.encoder}"
        " --weights {output.weights} --manifest {output.manifest} --log {log}"


rule extract_features:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        weights_manifest="data/manifests/weights/{encoder}.json",
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        weights=ancient("data/weights/{encoder}.safetensors"),
    output:
        features="data/features/{encoder}-stage{stage}/{dataset}/{category}.npy",
        manifest="data/manifests/features/{encoder}-stage{stage}/{dataset}/{category}.json",
    log:
        "results/logs/extract_features/{encoder}-stage{stage}/{dataset}/{category}.log",
    benchmark:
        "results/benchmarks/extract_features/{encoder}-stage{stage}/{dataset}/{category}.tsv"
    threads: STUDY.training.threads
    params:
        code=code("extract_features"),
        limit=STUDY.features.max_cache_gib,
    message:
        "Extract {wildcards.encoder}'s features of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python scripts/extract_features.py --stage {wildcards.stage}"
        " --max-cache-gib {params.limit} --threads {threads} --prepared {input.prepared}"
        " --images {input.images} --weights {input.weights} --features {output.features}"
        " --manifest {output.manifest} --log {log}"
