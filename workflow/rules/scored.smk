# Score files (tables, galleries) are read by rules, but no rule's input: the JSON is, that says which
# they are. Snakemake makes an input that is absent again, with all it rests on; a clone that has
# pulled none of them would train to judge.


def score_table(cell):
    return str(scored_as(STUDY, cell).file(Path(RESULTS, "scores"), "csv"))


def scored(cell):
    return str(scored_as(STUDY, cell).file(Path(RESULTS, "scored"), "json"))


def scored_of(cells):
    """Return `scored` of cells, each once: variants of one training share it."""
    return list(dict.fromkeys(map(scored, cells)))


def untracked_tables():
    """Return the score tables that no `.dvc` file records: DVC brings the others back."""
    tracked = {name for name in CARDS if Path(f"{RESULTS}/scores/{name}.dvc").is_file()}
    return [score_table(cell) for cell in SCORED if cell.dataset not in tracked]


def check_score_files():
    """End with a sentence where jobs read score files that are not here and that no job makes."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.output]  # not `all`
    made = {path for job in jobs for path in job.output}
    absent = set()
    for job in jobs:
        endings = (".csv", ".npz") if job.rule.name == "plot_panels" else (".csv",)
        for path in set(job.input) - made:
            folder, _, cell = path.partition("/scored/")
            table = Path(folder, "scores", cell)
            if cell and not all(table.with_suffix(ending).exists() for ending in endings):
                absent.add(cell.partition("/")[0])
    if absent:
        scores, described = (
            " ".join(f"{RESULTS}/{kind}/{name}" for name in sorted(absent))
            for kind in ("scores", "scored")
        )
        sys.exit(
            f"Score files are needed that are not here: `dvc pull {scores}` brings those of a "
            f"study that was shared. To score again instead, `rm -r {described}` and run the same."
        )
