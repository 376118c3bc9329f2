# Score components of every validation and test image: not combined, not standardised.


rule score_images:
    input:
        read("score_images"),
    output:
        **made("score_images"),
    log:
        f"{RESULTS}/logs/score_images/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_images/{CELL}.tsv"
    wildcard_constraints:
        variant=none_of(FUSIONS),
    threads: threads_of
    resources:
        study=str(STUDY_FILE),
    params:
        code=method_code("score_images"),
        asked=asked("score_images"),
        of=of,
    message:
        "Score {wildcards.dataset}, {wildcards.category} with {wildcards.variant}, seed {wildcards.seed}"
    shell:
        run("score_images")


rule fuse_scores:
    input:
        read("fuse_scores"),
    output:
        **made("fuse_scores"),
    log:
        f"{RESULTS}/logs/fuse_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fuse_scores/{CELL}.tsv"
    wildcard_constraints:
        variant=one_of(FUSIONS),
    resources:
        study=str(STUDY_FILE),
    params:
        code=code("fuse_scores"),
        asked=asked("fuse_scores"),
        of=of,
    message:
        "Fuse the scores of {wildcards.variant}'s members on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        run("fuse_scores")
