# From score tables alone: another beta, threshold or score definition costs seconds.


rule evaluate_scores:
    input:
        read("evaluate_scores"),
    output:
        **made("evaluate_scores"),
    log:
        f"{RESULTS}/logs/evaluate_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_scores/{CELL}.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("evaluate_scores"),
        asked=asked("evaluate_scores"),
        of=of,
    message:
        "Judge every variant that reads the scores of {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        run("evaluate_scores")


rule make_table:
    input:
        lambda w: strings(contents.inputs(STUDY, w.table)),
    output:
        csv=pattern("csv"),
        md=pattern("md"),
        tex=pattern("tex"),
    log:
        f"{RESULTS}/logs/make_table/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_table/{{table}}.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=lambda w: digest(Path("scripts/make_table.py"), *contents.code_of(w.table)),
        asked=SHOWN,
        of=of,
    message:
        "Make the table {wildcards.table}"
    shell:
        run("make_table")


rule plot_figure:
    input:
        lambda w: strings(contents.inputs(STUDY, w.figure, w.of)),
    output:
        svg=pattern("svg"),
        png=pattern("png"),
        pdf=pattern("pdf"),
    log:
        f"{RESULTS}/logs/plot_figure/{{figure}}-{{of}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_figure/{{figure}}-{{of}}.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=lambda w: digest(Path("scripts/plot_figure.py"), *contents.code_of(w.figure)),
        asked=SHOWN,
        of=of,
    message:
        "Plot {wildcards.figure} of {wildcards.of}"
    shell:
        run("plot_figure")
