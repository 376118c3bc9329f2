# Metrics from score files alone: another beta, threshold or score definition costs seconds.


def scores_of(wildcards, ending):
    return str(Path(score_table(cell_of(wildcards))).with_suffix(ending))


def train_summaries(wildcards):
    """Return the summaries of the trainings behind a cell: none, one, or those of its members."""
    cell, variant = cell_of(wildcards), STUDY.variant(wildcards.variant)
    if variant.method == "gradient":
        return []
    if variant.method == "fusion":
        members = [cell._replace(variant=name) for name in variant.members]
        members = [member for member in members if member.variant not in BASELINES]
    else:
        members = [cell]
    trained = [m._replace(variant=STUDY.trained_as(m.dataset, m.variant)) for m in members]
    return [str(member.file(Path(RESULTS, "train"), "json")) for member in dict.fromkeys(trained)]


def identity(wildcards):
    variant = STUDY.variant(wildcards.variant)
    encoder = STUDY.cell(wildcards.dataset, variant.name).encoder
    fitted = variant.method.trained or variant.method.peer
    content = {
        "study": STUDY.study,
        "dataset": wildcards.dataset,
        "category": wildcards.category,
        "variant": variant.name,
        "method": variant.method,
        "seed": int(wildcards.seed),
        "encoder": f"{encoder.name}-stage{encoder.stage}" if fitted else None,
    }
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
        train=train_summaries,
    output:
        metrics=f"{RESULTS}/metrics/{CELL}.json",
    log:
        f"{RESULTS}/logs/evaluate_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_scores/{CELL}.tsv"
    params:
        code=code("evaluate_scores"),
        identity=identity,
        settings=judging,
        train=lambda wildcards, input: f"--train {input.train}" if input.train else "",
    message:
        "Evaluate {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/evaluate_scores.py --scores {input.scores} --pixel {input.pixel}"
        " {params.train} --prepared {input.prepared} --identity {params.identity:q}"
        " --settings {params.settings:q} --metrics {output.metrics} --log {log}"


rule aggregate_metrics:
    input:
        metrics=[metrics_of(cell) for cell in CELLS],
    output:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    params:
        code=code("aggregate_metrics"),
        cells=pack_cells(CELLS),
    message:
        "Collect the metrics of all cells"
    shell:
        "python scripts/aggregate_metrics.py --cells {params.cells:q} --folder {RESULTS}"
        " --results {output.results} --main {output.main} --log {log}"
