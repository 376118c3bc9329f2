# AE-FLOW from a dataset's source to tables, figures and a report.
# The includes are in the order of the data's way; each rule has a script of the same name.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/configuration.smk"


configfile: "config/config.default.yaml"
configfile: "config/config.yaml"


# `snakemake --lint` asks for one; jobs run in the active environment (images: docs/install.md).
container: "docker://python:3.11-slim"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/scoring.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/hooks.smk"


onstart:
    start_study()


onerror:
    report_failures()


onsuccess:
    report_success()


# What needs the network, and what is done in seconds: not on a cluster's nodes.
localrules:
    all,
    fetch_data,
    fetch_weights,
    fuse_scores,
    evaluate_scores,
    make_table,
    plot_figure,
    build_report,
    build_browse,
    log_runs,


# Every small result by name: a job that failed is then missing, not forgotten.
rule all:
    default_target: True
    input:
        metrics=[str(cells.path(STUDY, "metrics", cell)) for cell in TABLES],
        scores=[str(cells.path(STUDY, "scores", cell)) for cell in TABLES],
        tables=expand(
            "{path}.{ending}",
            path=[f"{RESULTS}/tables/{table}" for table in contents.TABLES],
            ending=["csv", "md", "tex"],
        ),
        figures=[str(contents.figure_file(STUDY, *figure)) for figure in contents.figures(STUDY)],
        report=pattern("report"),
        browse=pattern("browse"),
        logged=expand(pattern("logged"), logger=STUDY.loggers),
