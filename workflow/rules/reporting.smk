# For people and for papers.


rule make_tables:
    input:
        results=f"{RESULTS}/tables/results.csv",
        main=f"{RESULTS}/tables/main.csv",
        published="config/published.yaml",
    output:
        [f"{RESULTS}/tables/{name}" for name in HUMAN_TABLES],
    log:
        f"{RESULTS}/logs/make_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_tables.tsv"
    params:
        code=code("make_tables"),
        folder=lambda wildcards, input: str(Path(input.results).parent),
    message:
        "Write the tables"
    shell:
        "python scripts/make_tables.py --results {input.results} --main {input.main}"
        " --published {input.published} --folder {params.folder} --log {log}"


rule plot_roc:
    input:
        metrics=lambda w: [metrics_of(*cell) for cell in cells() if cell[0] == w.dataset],
        style=STYLE,
    output:
        svg=f"{FIGURES}/roc-{{dataset}}.svg",
        png=f"{FIGURES}/roc-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_roc/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_roc/{{dataset}}.tsv"
    params:
        code=code("plot_roc"),
    message:
        "Plot ROC curves of {wildcards.dataset}"
    shell:
        "python scripts/plot_roc.py --metrics {input.metrics}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_scores:
    input:
        scores=first_seed(f"{RESULTS}/scores/{CELL}.csv"),
        metrics=first_seed(f"{RESULTS}/metrics/{CELL}.json"),
        style=STYLE,
    output:
        svg=f"{FIGURES}/scores-{COLUMN}.svg",
        png=f"{FIGURES}/scores-{COLUMN}.png",
    log:
        f"{RESULTS}/logs/plot_scores/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_scores/{COLUMN}.tsv"
    params:
        code=code("plot_scores"),
    message:
        "Plot score histograms of {wildcards.dataset}, {wildcards.category}, {wildcards.variant}"
    shell:
        "python scripts/plot_scores.py --scores {input.scores} --metrics {input.metrics}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_training:
    input:
        history=seeds_of_column(f"{RESULTS}/train/{CELL}.csv"),
        train=seeds_of_column(f"{RESULTS}/train/{CELL}.json"),
        style=STYLE,
    output:
        svg=f"{FIGURES}/training-{COLUMN}.svg",
        png=f"{FIGURES}/training-{COLUMN}.png",
    log:
        f"{RESULTS}/logs/plot_training/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_training/{COLUMN}.tsv"
    params:
        code=code("plot_training"),
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
        style=STYLE,
    output:
        svg=f"{FIGURES}/panels-{COLUMN}.svg",
        png=f"{FIGURES}/panels-{COLUMN}.png",
    log:
        f"{RESULTS}/logs/plot_panels/{COLUMN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_panels/{COLUMN}.tsv"
    params:
        code=code("plot_panels"),
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
        figures=report_figures(),
        template="aeflow/reporting/report.html",
        cards=sorted({f"config/datasets/{entry.card_name}.yaml" for entry in STUDY.datasets}),
    output:
        report=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/build_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report.tsv"
    params:
        code=code("build_report"),
        study=STUDY.study,
        datasets=card_entries(),
    message:
        "Build the report"
    shell:
        "python scripts/build_report.py --study {params.study} --datasets {params.datasets:q}"
        " --results {input.results}"
        " --main {input.main} --published {input.published} --metrics {input.metrics}"
        " --train {input.train} --figures {input.figures} --report {output.report} --log {log}"
