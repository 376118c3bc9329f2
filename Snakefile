# AE-FLOW from a dataset's source to tables, figures and a report.
# The includes are in the order of the data's way; each rule has a script of the same name.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.default.yaml"
configfile: "config/config.yaml"


# For `snakemake --sdm apptainer`; without that flag the active environment is used.
container: "docker://python:3.11-slim"


include: "workflow/rules/common.smk"
include: "workflow/rules/scored.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/shown.smk"
include: "workflow/rules/analysed.smk"
include: "workflow/rules/failed.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/scoring.smk"
include: "workflow/rules/peers.smk"
include: "workflow/rules/fusion.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/complexity.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/cluster.smk"


onstart:
    check_output_folders()
    check_score_files()
    check_slurm()


onerror:
    report_failures()


onsuccess:
    remove_incomplete()


# What needs the network, and what is done in seconds: not on a cluster's nodes.
localrules:
    all,
    fetch_data,
    fetch_weights,
    aggregate_metrics,
    collect_ablations,
    make_tables,
    plot_ablations,
    plot_categories,
    plot_claims,
    plot_complexity,
    plot_defects,
    plot_panels,
    plot_risk,
    plot_roc,
    plot_scores,
    plot_training,
    plot_variants,
    plot_weighting,
    build_report,


# Every small result by name: a job that failed is then missing, not forgotten.
rule all:
    default_target: True
    input:
        scored=[scored(cell) for cell in SCORED],
        scores=untracked_tables(),
        metrics=[metrics_of(cell) for cell in CELLS],
        tables=all_tables(),
        figures=figures(),
        headline=f"{RESULTS}/metrics.json",
        report=f"{RESULTS}/report.html",
