"""A failed cell leaves the others running, and the report says which failed and why."""

from collections.abc import Callable

import pandas as pd

from tests.workflow.conftest import Repository


def test_a_failed_cell_is_reported_beside_the_others_until_it_is_repaired(
    tiny: Repository, edit: Callable[[str, str, str], None]
) -> None:
    """The failing variant has metrics of an earlier success, which must not be shown."""
    incomplete, complete = tiny.results() / "incomplete", tiny.results() / "report.html"
    before = complete.read_bytes()
    broken = "{name: aeflow, settings: {training: {device: mps}}}"
    edit("tiny.yaml", "{name: aeflow}", broken)
    tiny.snakemake("--dry-run")
    assert not incomplete.exists()

    done = tiny.snakemake(check=False)
    assert done.returncode != 0
    assert "Cells without a result: 1 of 3; jobs that failed: 1." in done.stderr
    assert "tiny/incomplete/report.html" in done.stderr
    stale = tiny.results() / "metrics/demo_textures/brick/aeflow/seed0.json"
    assert stale.is_file()
    results = pd.read_csv(incomplete / "results.csv").set_index("variant")
    assert list(results.index) == ["aeflow", "beta_half", "gradient"]
    assert results["image_auroc"].isna().tolist() == [True, False, False]
    assert "this machine has no mps; use auto" in results.loc["aeflow", "reason"]
    assert results["reason"].isna().tolist() == [False, True, True]
    means = pd.read_csv(incomplete / "main.csv").set_index("variant")
    assert means["image_auroc_mean"].isna().tolist() == [True, False, False]
    assert "| aeflow " in (incomplete / "main.md").read_text()
    page = (incomplete / "report.html").read_text()
    assert page.count("this machine has no mps; use auto") == 2  # of the job, and of the cell
    assert '<td class="short">train_model</td>' in page
    assert complete.read_bytes() == before
    assert not list(incomplete.glob(".*"))

    edit("tiny.yaml", broken, "{name: aeflow}")
    tiny.snakemake()
    assert not incomplete.exists()
    assert tiny.plan() == {}
