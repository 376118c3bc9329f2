# Why it fails: complexity of the images, and the defects.


rule measure_complexity:
    input:
        prepared="data/manifests/prepared/{dataset}/{category}.json",
        images=ancient("data/prepared/{dataset}/{category}/images.npy"),
        masks=ancient("data/prepared/{dataset}/{category}/masks.npy"),
        index=ancient("data/prepared/{dataset}/{category}/index.csv"),
    output:
        complexity=f"{RESULTS}/complexity/{{dataset}}/{{category}}.csv",
    log:
        f"{RESULTS}/logs/measure_complexity/{{dataset}}/{{category}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_complexity/{{dataset}}/{{category}}.tsv"
    params:
        code=code("measure_complexity"),
    message:
        "Measure the complexity of the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python scripts/measure_complexity.py --images {input.images} --masks {input.masks}"
        " --index {input.index} --complexity {output.complexity} --log {log}"


rule explain_scores:
    input:
        metrics=[metrics_of(cell) for cell in explained()],
        scored=scored_of(explained()),
        complexity=[complexity_of(d, category) for d in CARDS for category in categories(d)],
    output:
        tables("complexity", "complexity_corrected", "defects"),
    log:
        f"{RESULTS}/logs/explain_scores.log",
    benchmark:
        f"{RESULTS}/benchmarks/explain_scores.tsv"
    params:
        code=code("explain_scores"),
        folder=lambda w: RESULTS,
        cells=pack_cells(explained()),
        trained=trained_names(explained()),
        tables=lambda w, output: str(Path(output[0]).parent),
    message:
        "Explain the scores: complexity and defects"
    shell:
        "python scripts/explain_scores.py --folder {params.folder} --cells {params.cells:q}"
        " --trained {params.trained:q} --tables {params.tables} --log {log}"


rule plot_complexity:
    input:
        correlations=f"{RESULTS}/tables/complexity.csv",
        corrected=f"{RESULTS}/tables/complexity_corrected.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/complexity-{{dataset}}.svg",
        png=f"{FIGURES}/complexity-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_complexity/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_complexity/{{dataset}}.tsv"
    params:
        code=code("plot_complexity"),
    message:
        "Plot scores against complexity on {wildcards.dataset}"
    shell:
        "python scripts/plot_complexity.py --dataset {wildcards.dataset}"
        " --correlations {input.correlations} --corrected {input.corrected}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_defects:
    input:
        defects=f"{RESULTS}/tables/defects.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/defects-{{dataset}}.svg",
        png=f"{FIGURES}/defects-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_defects/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_defects/{{dataset}}.tsv"
    params:
        code=code("plot_defects"),
    message:
        "Plot the defects of {wildcards.dataset}"
    shell:
        "python scripts/plot_defects.py --dataset {wildcards.dataset} --defects {input.defects}"
        " --svg {output.svg} --png {output.png} --log {log}"
