# The page of all that a study shows.


rule build_report:
    input:
        strings(contents.page_inputs(STUDY)),
    output:
        report=pattern("report"),
        headline=pattern("headline"),
    log:
        f"{RESULTS}/logs/build_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("build_report", *contents.code_of("page")),
        asked=SHOWN,
        of="",
    message:
        "Build the report"
    shell:
        run("build_report")
