"""The answer says what the tables say, and no more than the study's own tests bear."""

import numpy as np
import pandas as pd
import pytest

from aeflow.report.answer import answers, listed, question
from tests.unit.small_results import small_study

VARIANTS = [
    {"name": "aeflow"},
    {"name": "flow", "method": "flow"},
    {"name": "gradient", "method": "gradient"},
]
ONE = small_study(variants=VARIANTS, datasets=[{"name": "chest_xray"}], ablations=[])


def answer(aurocs, tests=(), chosen=None, study=ONE, **changes):
    """The answer for AUROCs by variant and rows of the comparison: `name: {...}`."""
    methods = {variant.name: variant.method.value for variant in study.all_variants}
    known = {"dataset": "chest_xray", "n_seeds": 2, "n_categories": 1, "image_auroc_sd": 0.01}
    known |= {"sensitivity_mean": 0.9, "specificity_mean": 0.75, "aupro_mean": np.nan}
    rows = [
        known | {"variant": name, "method": methods[name], "image_auroc_mean": auroc} | changes
        for name, auroc in aurocs.items()
    ]
    empty = dict.fromkeys(["difference", "p_holm", "seed_low", "seed_high"], np.nan)
    empty |= {"dataset": "chest_xray", "claim": False, "reason": "", "auroc_low": 0.79}
    comparison = [
        empty | {"auroc_high": 0.89, "variant": name, **dict(tests).get(name, {})}
        for name in aurocs
    ]
    choice = [{"dataset": "chest_xray", "variant": name, "chosen": True} for name in chosen or []]
    columns = ["dataset", "variant", "chosen"]
    tables = pd.DataFrame(rows), pd.DataFrame(comparison), pd.DataFrame(choice, columns=columns)
    (found,) = answers(study, tables[0], tables[1], tables[2].astype({"chosen": bool}))
    return found


REAL = {"difference": 0.04, "p_holm": 0.003, "seed_low": 0.01, "seed_high": 0.07, "claim": True}
NOT = REAL | {"p_holm": 0.19, "seed_low": -0.01, "claim": False}
WORSE = {"difference": -0.2, "p_holm": 1e-9, "seed_low": -0.21, "seed_high": -0.19, "claim": True}


def test_a_difference_that_both_tests_show_is_real():
    found = answer({"aeflow": 0.8, "flow": 0.84}, {"flow": REAL}.items())
    assert found.variant == "flow"
    assert found.sentences == [
        "On chest_xray, flow has the highest test AUROC of 2 variants: 84.0 % (79.0–89.0, 95 % "
        "over test images; ± 1.0 over 2 seeds).",
        "Its +4.0 points to the reference aeflow are real by the study's tests: p = 0.003 "
        "(DeLong, Holm), and over seeds 95 % are +1.0 to +7.0.",
        "At the threshold fitted on validation images it finds 90.0 % of the anomalous test "
        "images, and calls 25.0 % of the normal ones anomalous.",
    ]
    assert found.headlines == [
        ("AUROC", "84.0 %", "79.0–89.0, 95 % over test images"),
        ("Anomalies found", "90.0 %", "at validation's threshold"),
        ("False alarms", "25.0 %", "of the normal test images"),
        ("To aeflow", "+4.0 points", "real by the study's tests"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "not shown to be real: other test images may show none (p = 0.19); other trainings "
            "may show none (95 % over seeds: −1.0 to +7.0).",
        ),
        ({"seed_low": 0.01}, "not shown to be real: other test images may show none (p = 0.19)."),
        (
            {"p_holm": 0.01, "seed_low": np.nan, "seed_high": np.nan, "reason": "One training."},
            "not shown to be real. One training.",
        ),
        (
            {"p_holm": np.nan, "seed_low": 0.01, "reason": "No variance."},
            "not shown to be real. No variance.",
        ),
    ],
)
def test_what_keeps_a_difference_from_being_real_is_told(changes, expected):
    found = answer({"aeflow": 0.8, "flow": 0.84}, {"flow": NOT | changes}.items())
    assert found.sentences[1] == f"Its +4.0 points to the reference aeflow are {expected}"
    assert found.headlines[-1] == ("To aeflow", "+4.0 points", "not shown to be real")


def test_the_reference_is_set_beside_all_others():
    tests = {"flow": NOT | {"difference": -0.01}, "gradient": WORSE}
    found = answer({"aeflow": 0.8, "flow": 0.79, "gradient": 0.6}, tests.items(), ["flow"])
    assert found.sentences[1:3] == [
        "By the study's tests it is shown to be better than gradient, but not shown to be better "
        "than flow.",
        "The trivial baseline gradient, one number per image, has 60.0 %.",
    ]
    assert (
        found.sentences[-1] == "Validation images alone choose flow, whose test AUROC is 79.0 %."
    )
    assert found.headlines[-1] == ("To flow, the next", "+1.0 points", "not shown to be real")


def test_a_variant_that_is_shown_to_be_better_is_named_though_another_is_higher():
    tests = {"flow": REAL, "gradient": NOT}
    found = answer({"aeflow": 0.8, "flow": 0.84, "gradient": 0.85}, tests.items(), ["gradient"])
    assert "Shown to be better than aeflow: flow (+4.0)." in found.sentences
    assert "It is the trivial baseline, one number per image: nothing here beats it." in (
        found.sentences
    )
    assert found.sentences[-1] == "Validation images alone choose it too."


def test_without_an_auroc_or_a_second_variant_nothing_is_claimed():
    reason = {"reason": "There are no anomalous images."}
    found = answer({"aeflow": np.nan, "flow": np.nan}, {"aeflow": reason}.items())
    assert found.sentences == [
        "No variant has a test AUROC on chest_xray. There are no anomalous images."
    ]
    assert (found.variant, found.headlines) == ("", [])
    alone = answer({"aeflow": 0.8}, n_seeds=1, n_categories=3)
    assert alone.sentences[0] == (
        "On chest_xray, aeflow has a test AUROC: 80.0 % (79.0–89.0, 95 % over test images; one "
        "seed; mean of 3 categories)."
    )
    assert len(alone.sentences) == 2
    assert [what for what, *_ in alone.headlines] == ["AUROC", "Anomalies found", "False alarms"]


def test_what_was_asked():
    assert question(ONE) == (
        "How well do aeflow, flow and gradient tell anomalous images of chest_xray from normal "
        "ones, having seen normal images only? Is a difference to aeflow more than chance?"
    )
    one = small_study(variants=VARIANTS[:1], ablations=[{"name": "depth", **DEPTH}])
    assert question(one) == (
        "How well does aeflow tell anomalous images of chest_xray and tiles from normal ones, "
        "having seen normal images only? What does flow.steps change?"
    )
    assert listed("abcdefg") == "a, b, c, d, e, f and g"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"


DEPTH = {"of": "aeflow", "key": "flow.steps", "values": [4, 8]}
