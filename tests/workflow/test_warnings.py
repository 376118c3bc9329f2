"""What jobs warn of is told at the end of a run, also of one that makes a part."""

from collections.abc import Callable

from tests.workflow.conftest import Repository

FEW = "The threshold is the 0.99 quantile of 24 validation normals"


def test_a_run_of_a_part_tells_what_that_was_warned_of(
    tiny: Repository, edit: Callable[[str, str, str], None]
) -> None:
    """Of a whole run, with failures and without: test_failures.py."""
    edit("tiny.yaml", "seeds: [0, 1]", "seeds: [0, 1]\nthreshold: {specificity: 0.99}")
    metrics = "results/tiny/metrics/demo_textures/brick/aeflow/seed0.json"
    part = tiny.snakemake("--quiet", "all", "--", metrics).stderr
    assert part.count(FEW) == 1  # and not on the seed that this run is not about
    assert "demo_textures/brick/aeflow, seed 0;" in " ".join(part.split())
    assert part.splitlines()[-1].endswith("the logs below results/tiny/logs and results/logs")
