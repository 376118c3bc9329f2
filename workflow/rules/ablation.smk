# What one key of the configuration changes: from the metrics alone.


rule collect_ablations:
    input:
        results=f"{RESULTS}/tables/results.csv",
    output:
        csv=f"{RESULTS}/tables/ablations.csv",
        md=f"{RESULTS}/tables/ablations.md",
        tex=f"{RESULTS}/tables/ablations.tex",
    log:
        f"{RESULTS}/logs/collect_ablations.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect_ablations.tsv"
    params:
        code=code("collect_ablations"),
        ablations=json.dumps(ablation_rows(STUDY)),
    message:
        "Collect the ablations"
    shell:
        "python scripts/collect_ablations.py --results {input.results}"
        " --ablations {params.ablations:q} --csv {output.csv} --md {output.md}"
        " --tex {output.tex} --log {log}"


rule plot_ablations:
    input:
        ablations=f"{RESULTS}/tables/ablations.csv",
        results=f"{RESULTS}/tables/results.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/ablations-{{dataset}}.svg",
        png=f"{FIGURES}/ablations-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_ablations/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_ablations/{{dataset}}.tsv"
    params:
        code=code("plot_ablations"),
    message:
        "Plot the ablations on {wildcards.dataset}"
    shell:
        "python scripts/plot_ablations.py --dataset {wildcards.dataset}"
        " --ablations {input.ablations} --results {input.results} --svg {output.svg}"
        " --png {output.png} --log {log}"
