# Metrics from score files alone: another beta, threshold or score definition costs seconds.


rule evaluate_scores:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        scored=lambda wildcards: scored(cell_of(wildcards)),
        train=train_summaries,
    output:
        metrics=f"{RESULTS}/metrics/{CELL}.json",
    log:
        f"{RESULTS}/logs/evaluate_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_scores/{CELL}.tsv"
    params:
        code=code("evaluate_scores"),
        scores=lambda wildcards: score_table(cell_of(wildcards)),
        identity=identity,
        settings=judging,
        train=lambda wildcards, input: f"--train {input.train}" if input.train else "",
    message:
        "Evaluate {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/evaluate_scores.py --scores {params.scores} --scored {input.scored}"
        " {params.train} --prepared {input.prepared} --identity {params.identity:q}"
        " --settings {params.settings:q} --metrics {output.metrics} --log {log}"


rule aggregate_metrics:
    input:
        metrics=[metrics_of(cell) for cell in CELLS],
    output:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
        headline=f"{RESULTS}/metrics.json",
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    params:
        code=code("aggregate_metrics"),
        folder=lambda w: RESULTS,
        cells=pack_cells(CELLS),
    message:
        "Collect the metrics of all cells"
    shell:
        "python scripts/aggregate_metrics.py --cells {params.cells:q} --folder {params.folder}"
        " --results {output.results} --main {output.main} --headline {output.headline} --log {log}"
