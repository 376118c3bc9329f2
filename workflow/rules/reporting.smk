# For people and for papers.
FIGURES = f"{RESULTS}/figures"
HUMAN_TABLES = [f"{name}.{ending}" for name in ("results", "main") for ending in ("md", "tex")]
HUMAN_TABLES += [f"published.{ending}" for ending in ("csv", "md", "tex")]
TABLES = [f"{RESULTS}/tables/{name}" for name in ["results.csv", "main.csv", *HUMAN_TABLES]]
COLUMN = "{dataset}-{category}-{variant}"


def trained_columns():
    """Return every (dataset, category, variant) that was trained, each once."""
    return list(dict.fromkeys(cell[:3] for cell in trained_cells() if cell[2] in TRAINED))


def figures():
    names = [f"roc-{dataset}" for dataset in CARDS]
    for cell in trained_columns():
        names += [f"{kind}-{'-'.join(cell)}" for kind in ("panels", "scores", "training")]
    return [f"{FIGURES}/{name}.{ending}" for name in names for ending in ("svg", "png")]


def seeds_of_column(pattern):
    """Return a function that expands a path over the seeds of a variant."""
    return lambda wildcards: [
        pattern.format(**wildcards, seed=seed) for seed in STUDY.seeds_of(wildcards.variant)
    ]


def first_seed(pattern):
    return lambda w: pattern.format(**w, seed=STUDY.seeds_of(w.variant)[0])


rule make_tables:
    input:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
        published="config/published.yaml",
    output:
        [f"{RESULTS}/tables/{name}" for name in HUMAN_TABLES],
    params:
        code=code("make_tables"),
        folder=f"{RESULTS}/tables",
    log:
        f"{RESULTS}/logs/make_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_tables.tsv"
    message:
        "Write the tables"
    shell:
        "python scripts/make_tables.py --results {input.results} --main {input.main}"
        " --published {input.published} --folder {params.folder} --log {log}"


rule plot_roc:
    input:
        metrics=lambda w: [metrics_of(*cell) for cell in cells() if cell[0] == w.dataset],
    output:
        svg=f"{FIGURES}/roc-{{dataset}}.svg",
        png=f"{FIGURES}/roc-{{dataset}}.png",
    params:
        code=code("plot_roc"),
    log:
        f"{RESULTS}/logs/plot_roc/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_roc/{{dataset}}.tsv"
    message:
        "Plot ROC curves of {wildcards.dataset}"
    shell:
        "python scripts/plot_roc.py --metrics {input.metrics}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_scores:
    input:
        scores=first_seed(f"{RESULTS}/scores/{CELL}.csv"),
        metrics=first_seed(f"{RESULTS}/metrics/{CELL}.json"),
    output:
        svg=f"{FIGURES}/scores-{COLUMN}.svg",
        png=f"{FIGURES}/scores-{COLUMN}.png",
    params:
        code=code("plot_scores"),
    log:
        f"{RESULTS}/logs/plot_scores/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_scores/{COLUMN}.tsv"
    message:
        "Plot score histograms of {wildcards.dataset}, {wildcards.category}, {wildcards.variant}"
    shell:
        "python scripts/plot_scores.py --scores {input.scores} --metrics {input.metrics}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_training:
    input:
        history=seeds_of_column(f"{RESULTS}/train/{CELL}.csv"),
        train=seeds_of_column(f"{RESULTS}/train/{CELL}.json"),
    output:
        svg=f"{FIGURES}/training-{COLUMN}.svg",
        png=f"{FIGURES}/training-{COLUMN}.png",
    params:
        code=code("plot_training"),
    log:
        f"{RESULTS}/logs/plot_training/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_training/{COLUMN}.tsv"
    message:
        "Plot training curves of {wildcards.dataset}, {wildcards.category}, {wildcards.variant}"
    shell:
        "python scripts/plot_training.py --history {input.history} --train {input.train}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_panels:
    input:
        gallery=first_seed(f"{RESULTS}/gallery/{CELL}.npz"),
        scores=first_seed(f"{RESULTS}/scores/{CELL}.csv"),
        metrics=first_seed(f"{RESULTS}/metrics/{CELL}.json"),
    output:
        svg=f"{FIGURES}/panels-{COLUMN}.svg",
        png=f"{FIGURES}/panels-{COLUMN}.png",
    params:
        code=code("plot_panels"),
    log:
        f"{RESULTS}/logs/plot_panels/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_panels/{COLUMN}.tsv"
    message:
        "Draw best, worst and borderline cases of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python scripts/plot_panels.py --gallery {input.gallery} --scores {input.scores}"
        " --metrics {input.metrics} --svg {output.svg} --png {output.png} --log {log}"


rule build_report:
    input:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
        published="config/published.yaml",
        metrics=[metrics_of(*cell) for cell in cells()],
        train=[
            f"{RESULTS}/train/{d}/{c}/{v}/seed{s}.json"
            for d, c, v, s in trained_cells()
            if v in TRAINED
        ],
        figures=[path for path in figures() if path.endswith(".png")],
    output:
        report=f"{RESULTS}/report.html",
    params:
        code=code("build_report"),
        study=STUDY.study,
    log:
        f"{RESULTS}/logs/build_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report.tsv"
    message:
        "Build the report"
    shell:
        "python scripts/build_report.py --study {params.study} --results {input.results}"
        " --main {input.main} --published {input.published} --metrics {input.metrics}"
        " --train {input.train} --figures {input.figures} --report {output.report} --log {log}"
