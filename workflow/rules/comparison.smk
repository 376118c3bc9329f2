# Is a difference real, what does validation choose, and does it hold for every category?


rule compare_variants:
    input:
        scored=scored_of(COMPARED),
    output:
        csv=f"{RESULTS}/tables/comparison.csv",
        md=f"{RESULTS}/tables/comparison.md",
        tex=f"{RESULTS}/tables/comparison.tex",
    log:
        f"{RESULTS}/logs/compare_variants.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_variants.tsv"
    params:
        code=code("compare_variants"),
        folder=lambda w: RESULTS,
        cells=pack_cells(COMPARED),
        scorings=scorings(COMPARED),
        reference=STUDY.reference,
    message:
        "Test every variant against the reference"
    shell:
        "python scripts/compare_variants.py --folder {params.folder} --cells {params.cells:q}"
        " --scorings {params.scorings:q} --reference {params.reference}"
        " --csv {output.csv} --md {output.md} --tex {output.tex} --log {log}"


rule choose_setting:
    input:
        scored=scored_of(CHOOSABLE),
        main=f"{RESULTS}/tables/main.csv",
    output:
        csv=f"{RESULTS}/tables/choice.csv",
        md=f"{RESULTS}/tables/choice.md",
        tex=f"{RESULTS}/tables/choice.tex",
    log:
        f"{RESULTS}/logs/choose_setting.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_setting.tsv"
    params:
        code=code("choose_setting"),
        folder=lambda w: RESULTS,
        cells=pack_cells(CHOOSABLE),
        scorings=scorings(CHOOSABLE),
    message:
        "Choose a setting by validation images"
    shell:
        "python scripts/choose_setting.py --folder {params.folder} --cells {params.cells:q}"
        " --scorings {params.scorings:q} --main {input.main}"
        " --csv {output.csv} --md {output.md} --tex {output.tex} --log {log}"


rule plot_variants:
    input:
        results=f"{RESULTS}/tables/results.csv",
        comparison=f"{RESULTS}/tables/comparison.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/variants-{{dataset}}.svg",
        png=f"{FIGURES}/variants-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_variants/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_variants/{{dataset}}.tsv"
    params:
        code=code("plot_variants"),
    message:
        "Plot the variants on {wildcards.dataset}"
    shell:
        "python scripts/plot_variants.py --dataset {wildcards.dataset} --results {input.results} --comparison {input.comparison}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_categories:
    input:
        categories=f"{RESULTS}/tables/categories.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/categories-{{dataset}}.svg",
        png=f"{FIGURES}/categories-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_categories/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_categories/{{dataset}}.tsv"
    params:
        code=code("plot_categories"),
        reference=lambda w: STUDY.reference,
    message:
        "Plot the categories of {wildcards.dataset}"
    shell:
        "python scripts/plot_categories.py --dataset {wildcards.dataset} --categories {input.categories} --reference {params.reference}"
        " --svg {output.svg} --png {output.png} --log {log}"


rule plot_claims:
    input:
        claims=f"{RESULTS}/tables/claims.csv",
        style=STYLE,
    output:
        svg=f"{FIGURES}/claims-{{dataset}}.svg",
        png=f"{FIGURES}/claims-{{dataset}}.png",
    log:
        f"{RESULTS}/logs/plot_claims/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_claims/{{dataset}}.tsv"
    params:
        code=code("plot_claims"),
    message:
        "Plot published numbers beside ours on {wildcards.dataset}"
    shell:
        "python scripts/plot_claims.py --dataset {wildcards.dataset} --claims {input.claims}"
        " --svg {output.svg} --png {output.png} --log {log}"
