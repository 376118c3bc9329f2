"""A failed cell leaves the others running, and the report says which failed and why."""

from collections.abc import Callable

import pandas as pd

from tests.workflow.conftest import CELL, TINY, Repository
from tests.workflow.test_warnings import FEW


def test_a_failed_cell_is_reported_beside_the_others_until_it_is_repaired(
    tiny: Repository, edit: Callable[[str, str, str], None]
) -> None:
    """The failing variant has metrics of an earlier success, which must not be shown."""
    incomplete, complete = tiny.results() / "incomplete", tiny.results() / "report.html"
    before = complete.read_bytes()
    edit("tiny.yaml", "{name: demo_textures}", "{name: demo_textures, categories: [brick]}")
    edit("tiny.yaml", "seeds: [0, 1]", "seeds: [0]\nthreshold: {specificity: 0.99}")
    edit("tiny.yaml", "  - {name: ensemble, method: fusion, members: [aeflow]}\n", "")
    ablations = TINY[TINY.index("ablations:") : TINY.index("seeds:")]
    edit("tiny.yaml", ablations, "ablations: []\n")
    broken = "{name: aeflow, settings: {training: {device: mps}}}"
    edit("tiny.yaml", "{name: aeflow}", broken)
    tiny.snakemake("--dry-run")
    assert not incomplete.exists()

    done = tiny.snakemake(check=False)
    assert done.returncode != 0
    failed = "Failed: train_model of demo_textures brick aeflow 0: training.device: this machine"
    assert done.stderr.count(failed) == 1
    log = tiny.results() / f"logs/train_model/{CELL}.log"
    assert "Traceback" in log.read_text(), "for who looks"
    warned = done.stderr[done.stderr.index(FEW) :]
    assert warned.count(FEW) == 1
    assert "tiny/incomplete/report.html" in warned
    results = pd.read_csv(incomplete / "results.csv").set_index("variant")
    assert {"beta_half", "gradient"} <= set(results["image_auroc"].dropna().index)
    assert "aeflow" not in results["image_auroc"].dropna().index
    main = (incomplete / "main.md").read_text()
    assert "Not all results are there of demo_textures/aeflow" in main
    browsed = (incomplete / "browse/index.html").read_text()
    assert '"demo_textures/brick/aeflow/seed0: ' in browsed
    page = (incomplete / "report.html").read_text().replace("<wbr>", "")
    assert page.count("this machine has no mps; use auto") >= 2  # of the job, and of the cell
    assert "train_model" in page
    about = page[page.index(FEW) : page.index('id="main"')]
    assert "demo_textures/brick/beta_half, seed 0" in about
    assert "demo_textures/brick/aeflow" not in about
    assert complete.read_bytes() == before
    assert not list(incomplete.rglob(".*"))

    edit("tiny.yaml", broken, "{name: aeflow}")
    told = tiny.snakemake("--quiet", "all").stderr
    assert not incomplete.exists()
    assert told.count(FEW) == 1
    # What was judged in the run before, too: it is about the results that are there.
    assert "demo_textures/brick/aeflow, seed 0;" in " ".join(told.split())
    assert told.splitlines()[-1].endswith("results/tiny/report.html")
    page = complete.read_text()
    assert page.index('id="warnings"') < page.index(FEW) < page.index('id="main"')
    assert page.count(FEW) == 1
    again = tiny.snakemake()
    assert "Nothing to be done" in again.stdout + again.stderr
    assert FEW not in again.stderr  # Snakemake calls no hook; the report has them
