"""Few images: a detector, and a warning that a user sees, or a sentence; never a traceback."""

from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import load_file

from aeflow.core.errors import AeflowError, TrainingError
from aeflow.core.receipts import read_receipt
from aeflow.display.table import read_table
from aeflow.report.warned import warnings_of
from aeflow.study.cells import Cell, jobs_of, path
from aeflow.study.study import Study
from tests.unit.few_images import ROOT, STUDY, prepare, run
from tests.unit.report.test_page import Page

ONE = "The threshold is the 0.95 quantile of 1 validation normal, so it depends on single images"
FOUR = ONE.replace("1 validation normal,", "4 validation normals,")
BATCH = "Fewer training normals"
NO_SCALE = "To standardise 'density' takes 2 or more validation normals, and there are 1"
NO_CORRECTION = "The regression on complexity needs 4 or more validation normals"
SITUATIONS = {
    "two normals": ({"train": 1, "val_normal": 1}, [ONE, BATCH, NO_SCALE, NO_CORRECTION]),
    "no test, but anomalies to validate on": (
        {"train": 12, "val_normal": 4, "val_anomalous": 3},
        ["The threshold (highest F1) was fitted to 4 normal and 3 anomalous"],
    ),
    "no normal in the test": (
        {"train": 12, "val_normal": 4, "test_anomalous": 3, "masks": 2},
        [FOUR],
    ),
    "one anomaly": (
        {"train": 12, "val_normal": 4, "test_normal": 5, "test_anomalous": 1, "masks": 1},
        [FOUR, "The test has 5 normal and 1 anomalous images: with fewer than 10"],
    ),
    "one test image": (
        {"train": 12, "val_normal": 4, "test_normal": 1},
        [FOUR],
    ),
    "fewer than a batch": (
        {"train": 3, "val_normal": 2, "test_normal": 3, "test_anomalous": 3},
        [f"{BATCH} (3) than a batch (training.batch_size: 5)", NO_CORRECTION],
    ),
    "a validation of one": (
        {"train": 12, "val_normal": 1, "test_normal": 5, "test_anomalous": 5},
        [ONE, NO_SCALE, NO_CORRECTION],
    ),
    "one of each to validate on": (
        {"train": 5, "val_normal": 1, "val_anomalous": 1, "test_normal": 2, "test_anomalous": 2},
        ["The threshold (highest F1) was fitted to 1 normal and 1 anomalous", NO_SCALE],
    ),
}
# One of each kind of lack in the test: figures and page know of no other. Without an anomaly, that
# is "one test image".
SHOWN = {"two normals", "no normal in the test", "one anomaly", "one test image"}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_as_it_was: None) -> Study:
    for name in ("config", "scripts", "aeflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return Study.model_validate(STUDY)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_few_images_end_in_a_detector_and_in_warnings(study: Study, situation: str) -> None:
    counts, expected = SITUATIONS[situation]
    if counts["train"] == 1:  # of which there is no covariance at a position: see below
        variants = [each for each in STUDY["variants"] if each["name"] != "gaussian"]
        study = Study.model_validate(STUDY | {"variants": variants})
    prepare(study, **counts)
    run(study, situation in SHOWN)

    cell = Cell("own", "all", "aeflow", 0)
    assert load_file(path(study, "model", cell))
    judged = read_receipt(path(study, "metrics", cell)).facts["variants"]["aeflow"]
    assert judged["threshold"] is not None
    if "gaussian" in study.named:
        gaussian = read_receipt(path(study, "metrics", cell._replace(variant="gaussian"))).facts
        assert gaussian["variants"]["gaussian"]["threshold"] is not None
        assert gaussian["n_train"] == counts["train"]
    told = [warned.sentence for warned in warnings_of(study, jobs_of(study))]
    for sentence in expected:
        assert [one for one in told if one.startswith(sentence)], (sentence, told)

    if situation in SHOWN:
        page = Page(path(study, "report", {}).read_text())
        assert all(" ".join(sentence.split()) in page.text for sentence in told)
    main = read_table(path(study, "csv", {"table": "main"})).set_index("variant")
    shown = path(study, "md", {"table": "main"}).read_text()
    normal, anomalous = counts.get("test_normal", 0), counts.get("test_anomalous", 0)
    assert pd.notna(main.loc["aeflow", "image_auroc_mean"]) == bool(normal and anomalous)
    lacking = {(False, False): "no", (True, False): "no anomalous", (False, True): "no normal"}
    why = lacking.get((normal > 0, anomalous > 0))
    assert (f"| {why} test images" in shown) if why else ("test images" not in shown)


@pytest.mark.parametrize(
    ("variants", "train", "sentence"),
    [
        *(
            ([{"name": "a", "settings": {"flow": {"standardise": kind}}}], 1, sentence)
            for kind, sentence in (
                ("position", "flow.standardise: position needs training normals that differ"),
                ("whiten", "Whitening needs training normals that differ"),
            )
        ),
        ([{"name": "a", "method": "gaussian"}], 1, "Whitening needs"),
        (
            [
                {
                    "name": "a",
                    "method": "gaussian",
                    "settings": {"training": {"max_normals": 1}},
                }
            ],
            4,
            "Whitening needs",
        ),
        ([{"name": "a"}], 0, "There are 0 training and 1 validation normals: both are needed"),
    ],
)
def test_what_cannot_be_fitted_to_so_few_is_said_before_any_epoch(
    study: Study, variants: list[dict[str, object]], train: int, sentence: str
) -> None:
    study = Study.model_validate(STUDY | {"variants": variants, "ablations": []})
    prepare(study, train=train, val_normal=1)
    with pytest.raises(TrainingError) as error:
        run(study)
    assert str(error.value).startswith(sentence)
    assert not list(Path("results/few").rglob("*.safetensors"))


def test_a_study_whose_only_score_has_no_scale_is_shown_with_the_reason(study: Study) -> None:
    scaled = {"name": "scaled", "settings": {"score": {"scaling": "standardised"}}}
    study = Study.model_validate(STUDY | {"variants": [scaled], "ablations": []})
    prepare(study, train=5, val_normal=1, test_normal=2, test_anomalous=2)
    run(study)
    page = Page(path(study, "report", {}).read_text())
    assert page.text.count(NO_SCALE) >= 2  # a warning, and why cells are empty


def test_a_fusion_names_the_member_that_has_no_score(study: Study) -> None:
    scaled = {"name": "scaled", "settings": {"score": {"scaling": "standardised"}}}
    fused = {"name": "fused", "method": "fusion", "members": ["scaled"]}
    study = Study.model_validate(STUDY | {"variants": [scaled, fused], "ablations": []})
    prepare(study, train=5, val_normal=1)
    with pytest.raises(AeflowError, match=r"The member 'seed0' has no score\. To standardise"):
        run(study)
