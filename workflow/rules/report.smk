# The page of all that a study shows, and the page of its test images.


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


rule build_browse:
    input:
        strings(contents.browse_inputs(STUDY)),
    output:
        browse=pattern("browse"),
        browsed=directory(pattern("browsed")),
    log:
        f"{RESULTS}/logs/build_browse.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_browse.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("build_browse"),
        asked=SHOWN,
        of="",
    message:
        "Build the page of all test images"
    shell:
        run("build_browse")


rule log_runs:
    input:
        strings(log_inputs(STUDY) if STUDY.loggers else []),
    output:
        logged=directory(pattern("logged")),
    log:
        f"{RESULTS}/logs/log_runs/{{logger}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/log_runs/{{logger}}.tsv"
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("log_runs"),
        asked=SHOWN,
        of=of,
    message:
        "Log every run for {wildcards.logger}"
    shell:
        run("log_runs")
