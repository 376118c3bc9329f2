# Metrics from score files alone: another beta, threshold or score definition costs seconds.


def scores_of(wildcards, ending):
    table = score_table(wildcards.dataset, wildcards.category, wildcards.variant, wildcards.seed)
    return str(Path(table).with_suffix(ending))


def train_summary(wildcards):
    """Return the summary of the training behind a cell, where there is one."""
    if wildcards.variant in BASELINES:
        return []
    trained = STUDY.trained_as(wildcards.dataset, wildcards.variant)
    cell = f"{wildcards.dataset}/{wildcards.category}/{trained}/seed{wildcards.seed}"
    return [f"{RESULTS}/train/{cell}.json"]


def identity(wildcards):
    variant = STUDY.variant(wildcards.variant)
    encoder = STUDY.cell(wildcards.dataset, variant.name).encoder
    trained = variant.method != "gradient"
    content = {"study": STUDY.study, "dataset": wildcards.dataset, "category": wildcards.category}
    content |= {"variant": variant.name, "method": variant.method, "seed": int(wildcards.seed)}
    content["encoder"] = f"{encoder.name}-stage{encoder.stage}" if trained else None
    return json.dumps(content, sort_keys=True)


def judging(wildcards):
    cell = STUDY.cell(wildcards.dataset, wildcards.variant).model_dump(mode="json")
    content = {"score": cell["score"], "threshold": cell["threshold"]}
    content["evaluation"] = STUDY.evaluation.model_dump(mode="json")
    return json.dumps(content, sort_keys=True)


rule evaluate_scores:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        scores=lambda wildcards: scores_of(wildcards, ".csv"),
        pixel=lambda wildcards: scores_of(wildcards, ".json"),
        train=train_summary,
    output:
        metrics=f"{RESULTS}/metrics/{CELL}.json",
    params:
        code=code("evaluate_scores"),
        identity=identity,
        settings=judging,
        train=lambda wildcards, input: f"--train {input.train}" if input.train else "",
    log:
        f"{RESULTS}/logs/evaluate_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_scores/{CELL}.tsv"
    message:
        "Evaluate {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/evaluate_scores.py --scores {input.scores} --pixel {input.pixel}"
        " {params.train} --prepared {input.prepared} --identity {params.identity:q}"
        " --settings {params.settings:q} --metrics {output.metrics} --log {log}"


rule aggregate_metrics:
    input:
        metrics=[metrics_of(*cell) for cell in cells()],
    output:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
    params:
        code=code("aggregate_metrics"),
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    message:
        "Collect the metrics of all cells"
    shell:
        "python scripts/aggregate_metrics.py --metrics {input.metrics}"
        " --results {output.results} --main {output.main} --log {log}"
