# From stored scores alone: the weight of S_flow, and the seeds as an ensemble.


rule sweep_weighting:
    input:
        scored=[scored(cell) for cell in swept_cells()],
    output:
        sweep=f"{RESULTS}/tables/weighting_sweep.csv",
        csv=f"{RESULTS}/tables/weighting.csv",
        md=f"{RESULTS}/tables/weighting.md",
        tex=f"{RESULTS}/tables/weighting.tex",
    log:
        f"{RESULTS}/logs/sweep_weighting.log",
    benchmark:
        f"{RESULTS}/benchmarks/sweep_weighting.tsv"
    params:
        code=code("sweep_weighting"),
        folder=lambda w: RESULTS,
        cells=pack_cells(swept_cells()),
        betas=json.dumps(STUDY.analysis.betas),
    message:
        "Sweep beta over the scores of every training"
    shell:
        "python scripts/sweep_weighting.py --folder {params.folder} --cells {params.cells:q}"
        " --betas {params.betas:q} --sweep {output.sweep} --csv {output.csv} --md {output.md}"
        " --tex {output.tex} --log {log}"


rule plot_weighting:
    input:
        sweep=f"{RESULTS}/tables/weighting_sweep.csv",
        chosen=f"{RESULTS}/tables/weighting.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/weighting-{{dataset}}.svg",
        png=f"{FIGURES}/weighting-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_weighting/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_weighting/{{dataset}}.tsv"
    params:
        code=code("plot_weighting"),
    message:
        "Plot AUROC over beta of {wildcards.dataset}"
    shell:
        "python scripts/plot_weighting.py --dataset {wildcards.dataset} --sweep {input.sweep}"
        " --chosen {input.chosen} --svg {output.svg} --png {output.png} --log {log}"


rule evaluate_ensembles:
    input:
        scored=scored_of(ensemble_cells()),
        metrics=[metrics_of(cell) for cell in ensemble_cells()],
    output:
        csv=f"{RESULTS}/tables/ensembles.csv",
        md=f"{RESULTS}/tables/ensembles.md",
        tex=f"{RESULTS}/tables/ensembles.tex",
        risk=f"{RESULTS}/tables/risk.csv",
    log:
        f"{RESULTS}/logs/evaluate_ensembles.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_ensembles.tsv"
    params:
        code=code("evaluate_ensembles"),
        folder=lambda w: RESULTS,
        cells=pack_cells(ensemble_cells()),
        trained=trained_names(ensemble_cells()),
        datasets=card_entries(),
    message:
        "Judge the seeds of each variant as an ensemble"
    shell:
        "python scripts/evaluate_ensembles.py --folder {params.folder} --cells {params.cells:q}"
        " --trained {params.trained:q} --datasets {params.datasets:q} --csv {output.csv}"
        " --md {output.md} --tex {output.tex} --risk {output.risk} --log {log}"


rule plot_risk:
    input:
        ensembles=f"{RESULTS}/tables/ensembles.csv",
        risk=f"{RESULTS}/tables/risk.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/risk-{{dataset}}.svg",
        png=f"{FIGURES}/risk-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_risk/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_risk/{{dataset}}.tsv"
    params:
        code=code("plot_risk"),
    message:
        "Plot risk over coverage of {wildcards.dataset}"
    shell:
        "python scripts/plot_risk.py --dataset {wildcards.dataset} --ensembles {input.ensembles}"
        " --risk {input.risk} --svg {output.svg} --png {output.png} --log {log}"
