# Several variants' scores as the components of one more.


rule fuse_scores:
    input:
        scored=lambda wildcards: [scored(cell) for cell in members(wildcards)],
    output:
        scores=f"{RESULTS}/scores/{CELL}.csv",
        scored=f"{RESULTS}/scored/{CELL}.json",
    log:
        f"{RESULTS}/logs/fuse_scores/{CELL}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fuse_scores/{CELL}.tsv"
    wildcard_constraints:
        variant=one_of(FUSIONS),
    params:
        code=code("fuse_scores"),
        members=members_as_json,
    message:
        "Fuse the scores of {wildcards.variant}'s members on {wildcards.dataset}, {wildcards.category}, seed {wildcards.seed}"
    shell:
        "python scripts/fuse_scores.py --members {params.members:q}"
        " --scores {output.scores} --scored {output.scored} --log {log}"
