"""A source reads what its entry declares, and nothing else."""

import pytest

from aeflow.core.errors import DataError
from aeflow.core.receipts import read_receipt, write_receipt
from aeflow.core.types import Split
from aeflow.questions.source import Source
from aeflow.study.cells import Cell, path, study_cells

CELL = Cell("chest_xray", "all", "aeflow_beta0.0", 1)


def source_of(study, *reads, **options):
    return Source(study, reads, study_cells(study), **options)


def test_a_run_is_flat_and_a_variants_own(small):
    source = source_of(small, "metrics", "scores", "train")
    run, other = source.metrics_of(CELL), source.metrics_of(CELL._replace(variant="aeflow"))
    assert {name: run[name] for name in CELL._fields} == CELL._asdict()
    assert (run["method"], run["encoder"]) == ("aeflow", "wide_resnet50_2-stage3")
    assert run["image_auroc"] != other["image_auroc"]
    assert run["components"] == other["components"]
    assert [r["settings"]["score"]["beta"] for r in (run, other)] == [0.0, 0.9]
    assert (run["n_train"], run["n_test_normal"], run["n_val_anomalous"]) == (50, 15, 10)
    assert len(source.runs()) == 18
    scores = source.predictions(Split.TEST, [CELL])["chest_xray"][CELL.variant]["all"].score
    assert scores.shape == (35, 1)
    (training,) = source.trainings([CELL])
    assert training["variant"] == CELL.variant
    assert training["settings"]["flow"]["steps"] == 8
    assert training["history"]["epoch"].tolist() == [1, 2]


def test_what_an_entry_does_not_declare_is_refused(small):
    bare = Source(small, ["results"], [CELL])
    for read in (
        lambda: bare.metrics_of(CELL),
        lambda: bare.predictions(Split.TEST),
        lambda: bare.trainings(),
        lambda: bare.gallery(CELL),
        lambda: bare.published(),
        lambda: bare.table("main"),
    ):
        with pytest.raises(DataError, match="which its line in the contents does not name"):
            read()
    other = CELL._replace(seed=0)
    narrow = Source(small, ["metrics", "scores"], [CELL])
    with pytest.raises(DataError, match=r"metrics of chest_xray/all/aeflow_beta0\.0/0, which"):
        narrow.metrics_of(other)
    with pytest.raises(DataError, match="scores of chest_xray"):
        narrow.predictions(Split.TEST, [CELL, other])


def test_a_cell_without_a_result_has_its_reason_and_its_variant_no_predictions(small):
    source = source_of(small, "metrics", "scores", missing={CELL: "Too few images."})
    run = source.metrics_of(CELL)
    assert run["reason"] == "Too few images."
    assert run["image_auroc"] != run["image_auroc"]  # NaN
    assert (run["method"], run["per_defect"]) == ("aeflow", {})
    assert source.lacking() == {("chest_xray", CELL.variant): "Too few images."}
    variants = source.predictions(Split.TEST)["chest_xray"]
    assert CELL.variant not in variants
    assert "aeflow" in variants


def test_metrics_that_lack_something_are_named(small):
    file = path(small, "metrics", CELL._replace(variant="aeflow"))
    receipt = read_receipt(file)
    del receipt.facts["variants"][CELL.variant]["aupro"]
    write_receipt(file, made={}, origin={}, settings=receipt.settings, facts=receipt.facts)
    with pytest.raises(DataError, match=rf"{file} lacks aupro of {CELL.variant}: delete it"):
        source_of(small, "metrics").metrics_of(CELL)
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        source_of(small, "metrics").metrics_of(CELL)
