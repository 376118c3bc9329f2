"""Ablations and fusions in the configuration: names, settings, shared trainings, mistakes."""

from typing import Any

import pytest

from aeflow.core.errors import ConfigError
from aeflow.core.schema import validate
from aeflow.study.ablations import ablation_rows
from aeflow.study.study import Study

DEPTH = {"name": "depth", "of": "aeflow", "key": "flow.steps", "values": [1, 8]}
FLOW, LOW = {"name": "flow", "method": "flow"}, {"name": "low", "method": "gradient"}


def study(**content: Any) -> Study:
    return validate(Study, {"datasets": [{"name": "btad"}], **content}, "configuration")


def refusal(**content: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        study(**content)
    return str(caught.value)


def ablated(**changes: Any) -> str:
    return refusal(ablations=[DEPTH | changes])


def test_a_variant_for_each_value_under_a_name_that_tells_it() -> None:
    keys = {
        "flow.steps": [1, 12],
        "flow.subnet": ["resnet"],
        "flow.hidden_channels": [64, None],
        "loss.alpha": [0.1],
        "encoder.finetune": [True],
    }
    ablations = [
        {"name": f"a{number}", "of": "aeflow", "key": key, "values": values}
        for number, (key, values) in enumerate(keys.items())
    ]
    found = study(variants=[{"name": "aeflow"}], ablations=ablations)
    assert [variant.name for variant in found.all_variants] == [
        *["aeflow", "aeflow_a01", "aeflow_a012", "aeflow_a1_resnet", "aeflow_a264"],
        *["aeflow_a2_none", "aeflow_a30.1", "aeflow_a4_true"],
    ]
    cell = found.cell("btad", "aeflow_a264")
    assert (cell.flow.hidden_channels, cell.flow.steps) == (64, 8)
    assert found.cell("btad", "aeflow_a4_true").encoder.finetune is True


def test_everything_but_the_key_is_as_in_the_changed_variant() -> None:
    own = {"flow": {"subnet": "resnet", "steps": 4}, "score": {"beta": 1.0}}
    found = study(
        variants=[{"name": "flow", "method": "flow", "settings": own}],
        ablations=[DEPTH | {"of": "flow", "values": [2]}],
    )
    variant, cell = found.variant("flow_depth2"), found.cell("btad", "flow_depth2")
    assert variant.method == "flow"
    assert (cell.flow.steps, cell.flow.subnet, cell.score.beta) == (2, "resnet", 1.0)


def test_a_value_that_the_variant_has_shares_its_training_dataset_by_dataset() -> None:
    found = study(
        datasets=[{"name": "btad"}, {"name": "miic", "settings": {"flow": {"steps": 1}}}],
        ablations=[DEPTH],
    )
    rows = {(row["dataset"], row["value"]): row for row in ablation_rows(found)}
    assert [rows["btad", value]["trained_as"] for value in (1, 8)] == ["aeflow_depth1", "aeflow"]
    assert [rows["miic", value]["trained_as"] for value in (1, 8)] == ["aeflow", "aeflow_depth8"]
    defaults = [key for key, row in rows.items() if row["is_default"]]
    assert defaults == [("btad", 8), ("miic", 1)]
    assert rows["btad", 1] == {
        **{"dataset": "btad", "ablation": "depth", "of": "aeflow", "key": "flow.steps"},
        **{"value": 1, "is_default": False, "variant": "aeflow_depth1"},
        "trained_as": "aeflow_depth1",
    }


def test_an_ablation_of_the_score_trains_nothing() -> None:
    beta = {"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0, 0.5, 0.9]}
    rows = ablation_rows(study(ablations=[beta]))
    assert [row["trained_as"] for row in rows] == ["aeflow"] * 3
    assert [row["is_default"] for row in rows] == [False, False, True]


def test_datasets_of_an_ablation_may_be_cards_that_the_study_has_not() -> None:
    found = study(
        datasets=[{"name": "btad"}, {"name": "mine", "card": "folder_two", "source": "/data"}],
        ablations=[DEPTH | {"datasets": ["chest_xray", "mine"]}],
    )
    assert {row["dataset"] for row in ablation_rows(found)} == {"mine"}
    assert [v.name for v in found.variants_on("btad")] == ["aeflow", "gradient"]
    assert "aeflow_depth1" in [v.name for v in found.variants_on("mine")]


def test_an_ablation_runs_where_its_variant_runs() -> None:
    datasets = [{"name": "btad"}, {"name": "miic"}]
    variants = [{"name": "aeflow", "datasets": ["miic"]}, {"name": "rest"}]
    found = study(datasets=datasets, variants=variants, ablations=[DEPTH])
    assert {row["dataset"] for row in ablation_rows(found)} == {"miic"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"values": [1, 0]},
            "ablations[depth].values (aeflow_depth0): flow.steps: input should be greater than "
            "or equal to 1, not 0.",
        ),
        (
            {"key": "score.beta", "values": [1.5]},
            "ablations[depth].values (aeflow_depth1.5): score.beta: input should be less than or "
            "equal to 1, not 1.5.",
        ),
        (
            {"key": "flow.subnet", "values": ["cnov"]},
            "ablations[depth].values (aeflow_depth_cnov): flow.subnet: input should be 'conv' or "
            "'resnet', not 'cnov'.",
        ),
        (
            {"key": "score.reconstruction", "values": ["psnr"]},
            "ablations[depth].values (aeflow_depth_psnr): score.reconstruction: input should be "
            "'ssim' or 'mse', not 'psnr'.",
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
            {"values": [1, 2, 1]},
            "configuration: ablations[depth].values names 1 twice.",
        ),
        (
            {"datasets": ["chest_xrya"]},
            "configuration: ablations[depth].datasets names chest_xrya, which is not in the study "
            "(did you mean chest_xray?).",
        ),
    ],
)
def test_a_mistake_in_an_ablation_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert ablated(**changes) == sentence


def test_an_ablation_needs_values_and_a_name_of_its_own() -> None:
    assert "ablations.0.values" in ablated(values=[])
    assert refusal(ablations=[DEPTH, DEPTH]) == "configuration: ablations names depth twice."
    taken = [{"name": "aeflow"}, {"name": "aeflow_depth1"}]
    assert refusal(variants=taken, ablations=[DEPTH]) == (
        "configuration: variants and ablations names aeflow_depth1 twice."
    )


def test_an_ensemble_of_one_is_refused() -> None:
    lone = "configuration: analysis.ensembles: {} has one seed, and an ensemble needs two or more."
    assert refusal(seeds=[3], analysis={"ensembles": ["aeflow"]}) == lone.format("aeflow")
    assert refusal(analysis={"ensembles": ["gradient"]}) == lone.format("gradient")
    assert study().ensembles == ["aeflow"]
    assert study(seeds=[3]).ensembles == []


def fused(members: list[str], *others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fusion = {"name": "both", "method": "fusion", "members": members} | changes
    return {"variants": [{"name": "aeflow"}, FLOW, LOW, *others, fusion]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (fused(["flow"]), "a fusion needs two different variants or more"),
        (fused(["flow", "flow"]), "a fusion needs two different variants or more"),
        (
            fused(["flow", "folw"]),
            "names folw, which is not in the study (did you mean flow?)",
        ),
        (
            fused(["flow", "f"], {"name": "f", "method": "fusion", "members": ["flow", "low"]}),
            "f is itself a fusion",
        ),
        (fused([]), "belongs to the method fusion, and to no other"),
        (fused(["flow", "low"], method="flow"), "belongs to the method fusion, and to no other"),
        (
            fused(["flow", "far"], {"name": "far", "datasets": ["miic"]}),
            "far does not run on btad",
        ),
    ],
)
def test_a_mistake_in_a_fusion_is_one_sentence(content: dict[str, Any], sentence: str) -> None:
    colon = "" if sentence.startswith(("names", "belongs")) else ":"
    assert refusal(**content) == f"configuration: variants[both].members{colon} {sentence}."


def test_a_fusion_has_the_seeds_of_its_members() -> None:
    found = study(**fused(["flow", "low"]), ablations=[DEPTH | {"of": "flow"}])
    assert found.seeds_of("both") == [0, 1, 2]
    assert found.seeds_of("low") == [0]
    assert found.trained_as("btad", "both") == "both"


def test_a_fusion_of_an_ablations_variants() -> None:
    found = study(**fused(["flow_depth1", "flow_depth8"]), ablations=[DEPTH | {"of": "flow"}])
    assert found.seeds_of("both") == [0, 1, 2]
    assert refusal(**fused(["flow", "low"]), ablations=[DEPTH | {"of": "both"}]) == (
        "configuration: ablations[depth].of: both is not trained, so it has no settings."
    )
