# Several variants' scores as the components of one more.


def member_tables(wildcards):
    members = STUDY.variant(wildcards.variant).members
    return [score_table(cell_of(wildcards)._replace(variant=name)) for name in members]


def members_as_json(wildcards):
    """Return what turns each member's components into its score."""
    members = [
        {
            "name": name,
            "method": STUDY.variant(name).method,
            "score": STUDY.cell(wildcards.dataset, name).score.model_dump(mode="json"),
        }
        for name in STUDY.variant(wildcards.variant).members
    ]
    return json.dumps(members, sort_keys=True)


rule fuse_scores:
    input:
        tables=member_tables,
    output:
        scores=f"{RESULTS}/scores/{CELL}.csv",
        pixel=f"{RESULTS}/scores/{CELL}.json",
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
        "python scripts/fuse_scores.py --members {params.members:q} --tables {input.tables}"
        " --scores {output.scores} --pixel {output.pixel} --log {log}"
