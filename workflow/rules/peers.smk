# anomalib's methods: one process fits and scores a cell.


rule fit_peer:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        features_manifest=lambda wildcards: encoder_files(wildcards, "manifest"),
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        masks=ancient("data/prepared/{dataset}/{category}/masks.npy"),
        index=ancient("data/prepared/{dataset}/{category}/index.csv"),
        features=ancient(lambda wildcards: encoder_files(wildcards, "features")),
        weights=ancient(lambda wildcards: encoder_files(wildcards, "weights")),
    output:
        scores=f"{RESULTS}/scores/{CELL}.csv",
        scored=f"{RESULTS}/scored/{CELL}.json",
        summary=f"{RESULTS}/train/{CELL}.json",
    log:
        f"{RESULTS}/logs/fit_peer/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_peer/{CELL}.tsv"
    wildcard_constraints:
        variant=one_of(PEERS),
    threads: lambda w: STUDY.fit_settings(w.dataset, w.variant).training.threads
    params:
        code=code("fit_peer"),
        method=lambda w: STUDY.variant(w.variant).method,
        settings=lambda w: as_json(STUDY.fit_settings(w.dataset, w.variant)),
        fpr_limit=STUDY.evaluation.fpr_limit,
    message:
        "Fit and score {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/fit_peer.py --method {params.method} --settings {params.settings:q}"
        " --seed {wildcards.seed} --fpr-limit {params.fpr_limit}"
        " --images {input.images} --masks {input.masks} --index {input.index}"
        " --features {input.features} --features-manifest {input.features_manifest}"
        " --weights {input.weights} --scores {output.scores} --scored {output.scored}"
        " --summary {output.summary} --log {log}"
