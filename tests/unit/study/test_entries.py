"""Ablations and fusions: names, settings, shared trainings, rows, mistakes."""

from typing import Any

import pytest

from aeflow.core.errors import ConfigError
from aeflow.core.schema import validate
from aeflow.study.study import Study

DEPTH = {"name": "depth", "of": "aeflow", "key": "flow.steps", "values": [1, 8]}
BETA = {"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0.0, 0.9]}
LONE = "draws no random numbers, so there is no ensemble of its seeds: name two variants or more"
FLOW, LOW = {"name": "flow", "method": "flow"}, {"name": "low", "method": "gradient"}


def study(**content: Any) -> Study:
    return validate(Study, {"datasets": [{"name": "btad"}], **content}, "configuration")


def refusal(**content: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        study(**content)
    return str(caught.value)


def test_a_variant_for_each_value_under_a_name_that_tells_it() -> None:
    keys = {
        "flow.steps": [1, 12],
        "flow.subnet": ["resnet"],
        "flow.hidden_channels": [64, None],
        "loss.alpha": [0.1, 1e-5],
        "encoder.finetune": [True],
    }
    ablations = [
        {"name": f"a{number}", "of": "aeflow", "key": key, "values": values}
        for number, (key, values) in enumerate(keys.items())
    ]
    found = study(variants=[{"name": "aeflow"}], ablations=ablations)
    assert [variant.name for variant in found.all_variants] == [
        *["aeflow", "aeflow_a01", "aeflow_a012", "aeflow_a1_resnet", "aeflow_a264"],
        *["aeflow_a2_none", "aeflow_a30.1", "aeflow_a31e-05", "aeflow_a4_true"],
    ]
    assert found.named == ["aeflow"]
    cell = found.cell("btad", "aeflow_a264")
    assert (cell.flow.hidden_channels, cell.flow.steps) == (64, 8)
    assert found.cell("btad", "aeflow_a4_true").encoder.finetune is True


def test_everything_but_the_key_is_as_in_the_changed_variant() -> None:
    own = {"flow": {"subnet": "resnet", "steps": 4}, "score": {"beta": 1.0}}
    found = study(
        variants=[{"name": "aeflow"}, FLOW | {"settings": own}],
        ablations=[DEPTH | {"of": "flow", "values": [2, 4, 8]}],
    )
    cell = found.cell("btad", "flow_depth2")
    assert found.variant("flow_depth2").method == "flow"
    assert (cell.flow.steps, cell.flow.subnet, cell.score.beta) == (2, "resnet", 1.0)
    defaults = [row["value"] for row in found.ablation_rows() if row["is_default"]]
    assert defaults == [4], "the changed variant's, not the reference's"


def test_across_gives_every_value_again_for_each_combination() -> None:
    across = {"score.flow": ["density", "nll"], "score.scaling": ["raw", "standardised"]}
    found = study(variants=[{"name": "aeflow"}], ablations=[BETA | {"across": across}])
    expected = [
        (f"aeflow_beta{beta}_{flow}_{scaling}", beta, flow, scaling)
        for flow in across["score.flow"]
        for scaling in across["score.scaling"]
        for beta in BETA["values"]
    ]
    rows = found.ablation_rows()
    cells = [found.cell("btad", row["variant"]).score for row in rows]
    assert expected == [
        (row["variant"], score.beta, score.flow, score.scaling)
        for row, score in zip(rows, cells, strict=True)
    ]
    assert [row["value"] for row in rows] == [0.0, 0.9] * 4
    assert rows[3]["across"] == {"score.flow": "density", "score.scaling": "standardised"}
    assert {row["trained_as"] for row in rows} == {"aeflow"}, "a score trains nothing"
    # All keys count: 0.9, density and raw are the study's.
    assert [row["variant"] for row in rows if row["is_default"]] == ["aeflow_beta0.9_density_raw"]


def test_a_value_that_the_variant_has_shares_its_training_dataset_by_dataset() -> None:
    found = study(
        datasets=[{"name": "btad"}, {"name": "miic", "settings": {"flow": {"steps": 1}}}],
        ablations=[DEPTH],
    )
    rows = {(row["dataset"], row["value"]): row for row in found.ablation_rows()}
    assert [rows["btad", value]["trained_as"] for value in (1, 8)] == ["aeflow_depth1", "aeflow"]
    assert [rows["miic", value]["trained_as"] for value in (1, 8)] == ["aeflow", "aeflow_depth8"]
    assert [key for key, row in rows.items() if row["is_default"]] == [("btad", 8), ("miic", 1)]
    assert rows["btad", 1] == {
        **{"dataset": "btad", "ablation": "depth", "of": "aeflow", "key": "flow.steps"},
        **{"value": 1, "across": {}, "is_default": False, "variant": "aeflow_depth1"},
        "trained_as": "aeflow_depth1",
    }


def test_an_ablation_runs_where_it_says_or_where_its_variant_runs() -> None:
    """An overlay replaces the datasets and keeps the ablations of others."""
    datasets = [{"name": "btad"}, {"name": "mine", "card": "folder_two", "source": "/data"}]
    found = study(datasets=datasets, ablations=[DEPTH | {"datasets": ["chest_xray", "mine"]}])
    assert {row["dataset"] for row in found.ablation_rows()} == {"mine"}
    assert [v.name for v in found.variants_on("btad")] == ["aeflow", "gradient"]
    variants = [{"name": "aeflow", "datasets": ["mine"]}, {"name": "rest"}]
    found = study(datasets=datasets, variants=variants, ablations=[DEPTH])
    assert {row["dataset"] for row in found.ablation_rows()} == {"mine"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"values": [1, -1]},
            "ablations[depth].values (aeflow_depth-1): flow.steps: input should be greater than "
            "or equal to 0, not -1.",
        ),
        (
            {"key": "score.reconstruction", "values": ["psnr"]},
            "ablations[depth].values (aeflow_depth_psnr): score.reconstruction: input should be "
            "'ssim', 'mse', 'centred_mse', 'residual' or 'residual_top', not 'psnr'.",
        ),
        (
            {"of": "aeflwo"},
            "configuration: ablations[depth].of names aeflwo, which is not in the study (did you "
            "mean aeflow?); `ablations: []` asks for none.",
        ),
        (
            {"of": "gradient"},
            "configuration: ablations[depth].of: gradient is not trained, so it has no settings.",
        ),
        (
            {"key": "flow.stpes"},
            "configuration: ablations[depth].key names flow.stpes, which is not in the study (did "
            "you mean flow.steps?).",
        ),
        (
            {"across": {"score.betta": [0.5]}},
            "configuration: ablations[depth].across names score.betta, which is not in the study "
            "(did you mean score.beta?).",
        ),
        (
            {"across": {"flow.steps": [2]}},
            "configuration: ablations[depth].key and across names flow.steps twice.",
        ),
        (
            {"across": {"score.beta": [1, 1]}},
            "configuration: variants and ablations names aeflow_depth1_1, aeflow_depth8_1 twice.",
        ),
        ({"values": [1, 2, 1]}, "configuration: ablations[depth].values names 1 twice."),
        (
            {"datasets": ["chest_xrya"]},
            "configuration: ablations[depth].datasets names chest_xrya, which is not in the study "
            "(did you mean chest_xray?).",
        ),
    ],
)
def test_a_mistake_in_an_ablation_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert refusal(ablations=[DEPTH | changes]) == sentence


def test_an_ablation_needs_values_and_a_name_of_its_own() -> None:
    assert "ablations.0.values" in refusal(ablations=[DEPTH | {"values": []}])
    assert "0.across.score.beta" in refusal(ablations=[DEPTH | {"across": {"score.beta": []}}])
    assert refusal(ablations=[DEPTH, DEPTH]) == "configuration: ablations names depth twice."
    taken = [{"name": "aeflow"}, {"name": "aeflow_depth1"}]
    assert refusal(variants=taken, ablations=[DEPTH]) == (
        "configuration: variants and ablations names aeflow_depth1 twice."
    )


def fused(members: list[str], *others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fusion = {"name": "both", "method": "fusion", "members": members} | changes
    return {"variants": [{"name": "aeflow"}, FLOW, LOW, *others, fusion]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (fused(["flow", "flow"]), " names flow twice"),
        (fused(["flow", "folw"]), " names folw, which is not in the study (did you mean flow?)"),
        (
            fused(["flow", "f"], {"name": "f", "method": "fusion", "members": ["flow", "low"]}),
            ": f is itself a fusion",
        ),
        (fused(["both"]), ": both is itself a fusion"),
        (fused([]), " belongs to the method fusion, and to no other"),
        (fused(["flow", "low"], method="flow"), " belongs to the method fusion, and to no other"),
        (
            fused(["flow", "far"], {"name": "far", "datasets": ["miic"]}),
            ": far does not run on btad",
        ),
        (fused(["low"]), f": low {LONE}"),
    ],
)
def test_a_mistake_in_a_fusion_is_one_sentence(content: dict[str, Any], sentence: str) -> None:
    assert refusal(**content) == f"configuration: variants[both].members{sentence}."


def test_fusions_of_each_other_are_one_sentence() -> None:
    content = fused(["f"], {"name": "f", "method": "fusion", "members": ["both"]})
    expected = "configuration: variants[f].members: both is itself a fusion."
    assert refusal(**content) == expected


def test_a_fusion_may_have_members_of_an_ablation_and_has_none_itself() -> None:
    ablations = [DEPTH | {"of": "flow"}]
    found = study(**fused(["flow_depth1", "flow_depth8"]), ablations=ablations)
    assert found.trained_as("btad", "both") == "both"
    assert refusal(**fused(["flow", "low"]), ablations=[DEPTH | {"of": "both"}]) == (
        "configuration: ablations[depth].of: both is not trained, so it has no settings."
    )
