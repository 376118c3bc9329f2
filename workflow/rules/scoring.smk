# Score components of every validation and test image: not combined, not standardised.


rule score_images:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        features_manifest=lambda wildcards: encoder_files(wildcards, "manifest"),
        summary=f"{RESULTS}/train/{CELL}.json",
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        masks=ancient("data/prepared/{dataset}/{category}/masks.npy"),
        index=ancient("data/prepared/{dataset}/{category}/index.csv"),
        features=ancient(lambda wildcards: encoder_files(wildcards, "features")),
        weights=ancient(lambda wildcards: encoder_files(wildcards, "weights")),
        model=ancient(f"{RESULTS}/models/{CELL}.safetensors"),
    output:
        scores=f"{RESULTS}/scores/{CELL}.csv",
        scored=f"{RESULTS}/scored/{CELL}.json",
        gallery=f"{RESULTS}/scores/{CELL}.npz",
    log:
        f"{RESULTS}/logs/score_images/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_images/{CELL}.tsv"
    wildcard_constraints:
        variant=none_of(UNTRAINED),
    threads: lambda w: STUDY.fit_settings(w.dataset, w.variant).training.threads
    params:
        code=code("score_images"),
        method=lambda w: STUDY.variant(w.variant).method,
        settings=lambda w: as_json(STUDY.fit_settings(w.dataset, w.variant)),
        fpr_limit=STUDY.evaluation.fpr_limit,
    message:
        "Score {wildcards.dataset}, {wildcards.category} with {wildcards.variant}, seed {wildcards.seed}"
    shell:
        "python scripts/score_images.py --method {params.method} --settings {params.settings:q}"
        " --fpr-limit {params.fpr_limit} --images {input.images} --masks {input.masks}"
        " --index {input.index} --features {input.features}"
        " --features-manifest {input.features_manifest} --weights {input.weights}"
        " --model {input.model} --summary {input.summary} --scores {output.scores}"
        " --scored {output.scored} --gallery {output.gallery} --log {log}"


rule score_gradient:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        masks=ancient("data/prepared/{dataset}/{category}/masks.npy"),
        index=ancient("data/prepared/{dataset}/{category}/index.csv"),
    output:
        scores=f"{RESULTS}/scores/{CELL}.csv",
        scored=f"{RESULTS}/scored/{CELL}.json",
    log:
        f"{RESULTS}/logs/score_gradient/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_gradient/{CELL}.tsv"
    wildcard_constraints:
        variant=one_of(BASELINES),
    params:
        code=code("score_gradient"),
    message:
        "Score {wildcards.dataset}, {wildcards.category} with the trivial baseline"
    shell:
        "python scripts/score_gradient.py --images {input.images} --masks {input.masks}"
        " --index {input.index} --scores {output.scores} --scored {output.scored} --log {log}"
