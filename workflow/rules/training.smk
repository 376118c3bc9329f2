# One training per dataset, category, variant and seed, of whatever method.


rule train_model:
    input:
        read("train_model"),
    output:
        **made("train_model"),
    log:
        f"{RESULTS}/logs/train_model/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_model/{CELL}.tsv"
    wildcard_constraints:
        variant=none_of(name for name, method in METHODS.items() if not method.fitted),
    threads: threads_of
    resources:
        study=str(STUDY_FILE),
    params:
        code=method_code("train_model"),
        asked=asked("train_model"),
        of=of,
    message:
        "Train {wildcards.variant} on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        run("train_model")
