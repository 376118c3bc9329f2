# One training per dataset, category, variant and seed.


rule train_model:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        features_manifest=lambda wildcards: encoder_files(wildcards, "manifest"),
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        masks=ancient("data/prepared/{dataset}/{category}/masks.npy"),
        index=ancient("data/prepared/{dataset}/{category}/index.csv"),
        features=ancient(lambda wildcards: encoder_files(wildcards, "features")),
        weights=ancient(lambda wildcards: encoder_files(wildcards, "weights")),
    output:
        model=f"{RESULTS}/models/{CELL}.safetensors",
        summary=f"{RESULTS}/train/{CELL}.json",
        history=f"{RESULTS}/train/{CELL}.csv",
    log:
        f"{RESULTS}/logs/train_model/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_model/{CELL}.tsv"
    wildcard_constraints:
        variant=none_of(UNTRAINED),
    threads: lambda w: STUDY.fit_settings(w.dataset, w.variant).training.threads
    params:
        code=code("train_model"),
        method=lambda w: STUDY.variant(w.variant).method,
        settings=lambda w: as_json(STUDY.fit_settings(w.dataset, w.variant)),
        # Not an output: Snakemake deletes those before each attempt, and a killed training resumes.
        state=f"{RESULTS}/scratch/{CELL}.safetensors",
    message:
        "Train {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/train_model.py --method {params.method} --settings {params.settings:q}"
        " --seed {wildcards.seed}"
        " --images {input.images} --masks {input.masks} --index {input.index}"
        " --features {input.features} --features-manifest {input.features_manifest}"
        " --weights {input.weights} --state {params.state} --model {output.model}"
        " --summary {output.summary} --history {output.history} --log {log}"
