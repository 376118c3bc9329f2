# The page of all that a study shows.


rule build_report:
    input:
        tables=expand(pattern("csv"), table=contents.tables(STUDY)),
        figures=[
            pattern("png" if photographs else "svg").format(figure=figure, of=of)
            for figure, of, photographs in contents.figures(STUDY)
        ],
        more=strings(contents.page_inputs(STUDY)),
        template="aeflow/report/report.html",
    output:
        report=pattern("report"),
        headline=pattern("headline"),
    log:
        f"{RESULTS}/logs/build_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report.tsv"
    params:
        code=code("build_report"),
        asked=SHOWN,
        of="",
    message:
        "Build the report"
    shell:
        run("build_report")
