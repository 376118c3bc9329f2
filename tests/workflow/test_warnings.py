"""What jobs warn of is told at the end of a run and at the top of the report."""

from collections.abc import Callable

from tests.workflow.conftest import Repository

FEW = "The threshold is the 0.99 quantile of 24 validation normals"


def test_kind_15_warnings_are_told_at_the_end_of_a_run_and_in_the_report(
    tiny: Repository, edit: Callable[[str, str, str], None]
) -> None:
    edit("tiny.yaml", "seeds: [0, 1]", "seeds: [0, 1]\nthreshold: {quantile: 0.99}")
    metrics = "results/tiny/metrics/demo_textures/brick/aeflow/seed0.json"
    part = tiny.snakemake("--quiet", "all", "--", metrics).stderr
    assert part.count(FEW) == 1  # and not on the seed that this run is not about
    assert "demo_textures/brick/aeflow, seed 0;" in " ".join(part.split())
    assert part.splitlines()[-1].endswith("the logs below results/tiny/logs and results/logs")

    told = tiny.snakemake("--quiet", "all").stderr
    assert told.count(FEW) == 1
    lines = " ".join(told.split())
    # What was judged in the run before, too: it is about the results that are there.
    assert "demo_textures/brick/aeflow, seeds 0, 1;" in lines
    assert "more All of them" in lines or "more * Of" in lines
    assert told.splitlines()[-1].endswith("results/tiny/report.html")
    page = (tiny.results() / "report.html").read_text()
    assert page.index('<section id="warnings">') < page.index(FEW) < page.index('id="main"')
    assert page.count(FEW) == 1
    again = tiny.snakemake()
    assert "Nothing to be done" in again.stdout + again.stderr
    assert FEW not in again.stderr  # Snakemake calls no hook; the report has them
