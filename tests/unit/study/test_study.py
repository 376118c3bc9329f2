"""The configuration: typos, ranges, which settings a cell has, which trainings are shared."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.schema import validate
from aeflow.core.types import Method
from aeflow.study.settings import FitSettings
from aeflow.study.study import Study, read_study

DEPTH = {"name": "depth", "of": "aeflow", "key": "flow.steps"}


def study(**content: Any) -> Study:
    return validate(Study, content, "configuration")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"flwo": {}}, ["unknown key 'flwo'", "did you mean 'flow'"]),
        ({"flow": {"stpes": 3}}, ["unknown key 'flow.stpes'", "did you mean 'steps'"]),
        ({"flow": {"steps": -1}}, ["flow.steps", "greater than or equal to 0", "not -1"]),
        ({"training": {"lr": float("nan")}}, ["training.lr", "finite"]),
        (
            # Snakemake's --config makes a number a text.
            {"ablations": [{**DEPTH, "values": ["-1"]}]},
            ["ablations[depth].values (aeflow_depth_-1): flow.steps", "equal to 0, not '-1'"],
        ),
        ({"variants": [{"name": "a", "method": "aeflwo"}]}, ["variants.0.method", "aeflow"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [1, 1]}, ["seeds names 1 twice"]),
        ({"seeds": [-1]}, ["seeds.0", "greater than or equal to 0"]),
        ({"data": {"image_size": 100}}, ["data.image_size", "multiple of 32"]),
        ({"data": {"center_crop": 512}}, ["data.center_crop is larger than data.image_size"]),
        ({"datasets": [{"name": "btad"}] * 2}, ["datasets names btad twice"]),
        (
            {"datasets": [{"name": "btad", "categories": ["01", "01"]}]},
            ["datasets[btad].categories names 01 twice"],
        ),
        (
            {"variants": [{"name": "a", "datasets": ["bta"]}]},
            ["variants[a].datasets names bta", "did you mean btad?"],
        ),
        (
            {"variants": [{"name": "a", "settings": {"flow": {"stps": 1}}}]},
            ["variants[a].settings: unknown key 'flow.stps' (did you mean 'steps'?)"],
        ),
        ({"variants": [{"name": "a", "settings": {"flow": 3}}]}, ["variants[a].settings.flow"]),
        (
            {"datasets": [{"name": "btad", "settings": {"flow": {"steps": 99}}}]},
            ["datasets[btad].settings: flow.steps"],
        ),
        ({"variants": [{"name": "a", "label": "_x"}]}, ["variants.0.label", "begins with no `_`"]),
        ({"variants": [{"name": "a", "label": "x" * 41}]}, ["40 characters or fewer"]),
        ({"variants": [{"name": "a", "label": "a\x1b"}]}, ["variants.0.label", "U+001B"]),
        (
            {"variants": [{"name": "a", "label": "b"}, {"name": "b"}]},
            ["variants' labels names b twice"],
        ),
        ({"analysis": {"reference": "aeflwo"}}, ["analysis.reference names aeflwo", "aeflow?"]),
        (
            {"variants": [{"name": "a"}], "score": {"correct": "complexity"}},
            ["score.correct: complexity of a needs a variant", "gradient on chest_xray"],
        ),
        (
            {
                "datasets": [
                    {"name": "a", "card": "oct2017"},
                    {"name": "oct2017", "source": "/data/oct"},
                ]
            },
            ["a and oct2017 would both be fetched to data/raw/oct2017.zip"],
        ),
    ],
)
def test_a_mistake_is_named(content: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        study(**content)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "pneumoniamnist", "edition": "65"}, r"no edition '65' \(has: 64, 128, 224\)"),
        ({"name": "screws", "card": "folder_two"}, r"datasets\[screws\]: give a `source`"),
        ({"name": "x", "card": "folder_tow"}, "Did you mean 'folder_two'"),
        ({"name": "chest_xrya"}, "no dataset card 'chest_xrya'.* Did you mean 'chest_xray'"),
        ({"name": "btad", "categories": ["1"]}, r"no category '1' \(did you mean '01'\?\)"),
    ],
)
def test_an_entry_without_what_it_needs(entry: dict[str, Any], message: str) -> None:
    """Found with the categories, which every run asks for first."""
    with pytest.raises(ConfigError, match=message):
        study(datasets=[entry]).categories(entry["name"])


def test_an_entry_names_its_card_edition_split_and_categories() -> None:
    found = study(
        datasets=[
            {"name": "oct2017"},
            {"name": "disjoint", "card": "oct2017", "split": "patient_disjoint"},
            {"name": "small", "card": "pneumoniamnist", "edition": "64"},
            {"name": "screws", "card": "folder_mvtec", "source": "/data/screws"},
            {"name": "btad", "categories": ["03", "01"]},
        ]
    )
    splits = [found.card(name).split for name in ("oct2017", "disjoint")]
    assert splits == ["official", "patient_disjoint"]
    assert [file.name for file in found.card("small").files] == ["pneumoniamnist_64.npz"]
    archives = [entry.archive for entry in found.datasets]
    assert archives == ["oct2017", "oct2017", "pneumoniamnist-64", "screws", "btad"]
    assert found.entry_of("oct2017").name == "oct2017"
    assert (found.categories("oct2017"), found.categories("btad")) == (["all"], ["03", "01"])


def test_a_cell_takes_the_studys_then_the_datasets_then_the_variants_settings() -> None:
    found = study(
        flow={"steps": 2, "clamp": 1.0},
        datasets=[{"name": "d", "settings": {"flow": {"steps": 3, "subnet": "resnet"}}}],
        variants=[{"name": "v", "settings": {"flow": {"steps": 4}}}, {"name": "w"}],
    )
    flow = found.cell("d", "v").flow
    assert (flow.steps, flow.subnet, flow.clamp) == (4, "resnet", 1.0)
    assert found.cell("d", "w").flow.steps == found.value("d", "w", "flow.steps") == 3
    assert found.fit_settings("d", "v").flow == flow


def test_variants_that_differ_in_score_alone_share_a_training() -> None:
    found = study(
        datasets=[{"name": "d"}, {"name": "e", "settings": {"flow": {"steps": 12}}}],
        variants=[
            {"name": "a"},
            {"name": "beta", "settings": {"score": {"beta": 0.1}}},
            {"name": "deep", "settings": {"flow": {"steps": 12}}},
            {"name": "g", "method": "gradient"},
            {"name": "h", "method": "gradient", "settings": {"flow": {"steps": 3}}},
            {"name": "flow", "method": "flow"},
            {"name": "only_e", "datasets": ["e"]},
        ],
    )
    names = [variant.name for variant in found.variants_on("d")]
    assert [found.trained_as("d", name) for name in names] == ["a", "a", "deep", "g", "g", "flow"]
    assert [found.trained_as("e", name) for name in ("a", "deep", "only_e")] == ["a"] * 3
    assert found.readers("d", "a") == ["a", "beta"]
    assert found.readers("e", "a") == ["a", "beta", "deep", "only_e"]
    with pytest.raises(ConfigError, match="'only_e' does not run on d"):
        found.trained_as("d", "only_e")
    with pytest.raises(ConfigError, match="no variant 'b'"):
        found.trained_as("d", "b")


def test_variants_that_differ_in_anything_else_are_trained_by_themselves() -> None:
    keys: dict[str, dict[str, Any]] = {
        **{"encoder": {"stages": 2}, "flow": {"clamp": 1.0}, "decoder": {"output": "tanh"}},
        **{"loss": {"alpha": 0.1}, "training": {"lr": 0.1}, "features": {"normalise": "image"}},
        **{"gaussian": {"covariance": "shared"}, "maps": {"standardise": "position"}},
        "patchcore": {"coreset": 0.1},
    }
    assert keys.keys() == FitSettings.model_fields.keys()
    changed = [{"name": section, "settings": {section: keys[section]}} for section in keys]
    found = study(datasets=[{"name": "d"}], variants=[{"name": "a"}, *changed])
    assert [found.trained_as("d", section) for section in keys] == list(keys)


STAGES = {"encoder": {"stages": [2, 3]}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"encoder": {"stages": [3, 3]}},
            "encoder.stages: [3, 3] must name each stage once, the lowest first",
        ),
        (
            {"encoder": {"stages": [3, 2]}},
            "encoder.stages: [3, 2] must name each stage once, the lowest first",
        ),
        ({"encoder": {"stages": []}}, "encoder.stages: "),
        ({"encoder": {"stages": [0]}}, "encoder.stages.0: "),
        ({"encoder": {"stages": 7}}, "encoder.stages.0: "),
        ({"encoder": {"stages": [2, True]}}, "encoder.stages: a number is needed"),
        ({"encoder": {"stage": 3}}, "unknown key 'encoder.stage' (did you mean 'stages'"),
        ({"features": {"max_cache_gib": 1}}, "unknown key 'features.max_cache_gib'"),
        ({**STAGES, "maps": {"weights": [1.0]}}, "maps.weights: [1.0] must be a weight for each"),
        (
            {**STAGES, "maps": {"weights": [0, 0]}},
            "must be a weight for each of encoder.stages [2, 3], not all 0",
        ),
        ({**STAGES, "maps": {"weights": [1, -1]}}, "maps.weights.1: "),
        ({"maps": {"weights": [1, 1]}}, "must be a weight for each of encoder.stages [3]"),
        ({"flow": {"noise": -0.1}}, "flow.noise: input should be greater than or equal to 0"),
        ({"flow": {"noise": float("nan")}}, "flow.noise: "),
        ({"gaussian": {"ridge": 0}}, "gaussian.ridge: input should be greater than 0"),
        ({"gaussian": {"covariance": "full"}}, "gaussian.covariance: "),
        ({"features": {"normalise": "l2"}}, "features.normalise: "),
        ({"score": {"top_share": 0}}, "score.top_share: input should be greater than 0"),
        ({"score": {"top_share": 1.5}}, "score.top_share: "),
        ({"training": {"max_normals": 0}}, "training.max_normals: "),
        ({"threshold": {"rule": "cost", "cost": 0}}, "threshold.cost: input should be greater"),
        *(
            ({"threshold": older}, "normal_quantile is called specificity now, and its key")
            for older in ({"rule": "normal_quantile"}, {"quantile": 0.9})
        ),
        (
            {"decoder": {"target": "features", "stage": 3}},
            "decoder.stage: 3 must be before the last of encoder.stages (3), whose z' is decoded",
        ),
        (
            {"decoder": {"target": "features", "stage": 4}, "encoder": {"stages": [2, 4]}},
            "decoder.stage: 4 must be before the last of encoder.stages (4)",
        ),
        (
            {"decoder": {"target": "features"}, "encoder": {"stages": 1}},
            "decoder.stage: 0 must be before the last of encoder.stages (1)",
        ),
        ({"decoder": {"target": "features", "stage": 0}}, "decoder.stage: "),
    ],
)
@pytest.mark.parametrize("where", ["study", "variant"])
def test_a_mistake_in_stages_scores_or_noise_is_one_sentence(
    content: dict[str, Any], sentence: str, where: str
) -> None:
    if where == "variant":
        content = {"variants": [{"name": "v", "settings": content}]}
    with pytest.raises(ConfigError) as caught:
        study(**{"ablations": [], **content})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "a mapping" not in str(caught.value)  # a section whose keys do not fit is none


@pytest.mark.parametrize(
    "reconstruction", ["ssim", "mse", "centred_mse", "residual", "residual_top"]
)
@pytest.mark.parametrize("target", ["pixels", "features"])
def test_a_score_of_what_the_decoder_does_not_reconstruct_is_refused(
    reconstruction: str, target: str
) -> None:
    def ask(method: str, beta: float = 0.9) -> Study:
        score = {"reconstruction": reconstruction, "beta": beta}
        settings = {"score": score, "decoder": {"target": target}}
        variants = [{"name": "v", "method": method, "settings": settings}]
        return study(datasets=[{"name": "d"}], variants=variants, ablations=[])

    of = "features" if reconstruction.startswith("residual") else "pixels"
    if of == target:
        assert ask("aeflow").cell("d", "v").score.reconstruction == reconstruction
        assert ask("autoencoder", 1.0)
    else:
        fits = "residual or residual_top" if of == "pixels" else "ssim or mse or centred_mse"
        for method, beta in (("aeflow", 0.9), ("autoencoder", 0.9), ("autoencoder", 1.0)):
            with pytest.raises(ConfigError) as caught:
                ask(method, beta)
            expected = f"score.reconstruction: {reconstruction} of v is of {of}, and its "
            assert f"{expected}decoder.target is {target}: choose {fits}" in str(caught.value)
    # Where it does not count, it does not matter.
    assert ask("aeflow", 1.0)
    for method in ("flow", "gaussian", "padim", "gradient"):
        assert ask(method)


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("gaussian", {}, "the method gaussian"),
        ("flow", {"flow": {"standardise": "whiten"}}, "flow.standardise: whiten"),
        ("aeflow", {"flow": {"standardise": "channel"}}, "flow.standardise: channel"),
        (
            "autoencoder",
            {"decoder": {"target": "features"}, "score": {"reconstruction": "residual"}},
            "decoder.target: features",
        ),
        ("aeflow", {}, None),
        ("padim", {}, None),
    ],
)
def test_what_is_fitted_before_the_training_needs_a_frozen_encoder(
    method: str, settings: dict[str, Any], said: str | None
) -> None:
    variant = {"name": "v", "method": method, "settings": settings}
    tuned = {"finetune": True}
    expected = f"encoder.finetune of v: {said} is fitted to features before the training"
    with pytest.raises(ConfigError, match=expected) if said else nullcontext():
        study(datasets=[{"name": "d"}], variants=[variant], ablations=[], encoder=tuned)


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, {"aeflow": [3], "flow": [3], "gaussian": [3], "autoencoder": [3], "padim": [3]}),
        (
            {"decoder": {"target": "features"}},
            {"aeflow": [2, 3], "autoencoder": [2, 3], "flow": [3], "gaussian": [3], "padim": [3]},
        ),
        (
            {"decoder": {"target": "features", "stage": 1}, "encoder": {"stages": [2, 4]}},
            {"aeflow": [1, 2, 4], "flow": [2, 4], "padim": [2, 4]},
        ),
        (
            {"decoder": {"target": "features", "stage": 2}, "encoder": {"stages": [2, 4]}},
            {"aeflow": [2, 4]},
        ),
        # Of pixels, whatever the stage: it is not read.
        ({"decoder": {"stage": 2}}, {"aeflow": [3]}),
    ],
)
def test_the_stages_that_a_method_reads(
    settings: dict[str, Any], stages: dict[str, list[int]]
) -> None:
    fit = FitSettings.model_validate(settings)
    assert {method: fit.stages_of(Method(method)) for method in stages} == stages


@pytest.mark.parametrize(
    ("method", "asked", "target", "found"),
    [
        ("aeflow", "flow", "pixels", "flow"),
        ("aeflow", "nll", "pixels", "nll"),
        ("aeflow", "difference", "pixels", "difference"),
        ("aeflow", "residual", "pixels", "flow"),
        ("aeflow", "residual", "features", "residual"),
        ("aeflow", "difference", "features", "flow"),
        ("autoencoder", "flow", "pixels", "difference"),
        ("autoencoder", "energy", "features", "residual"),
        ("flow", "difference", "pixels", "flow"),
        ("gaussian", "energy", "pixels", "energy"),
        ("padim", "nll", "pixels", "padim"),
        ("ganomaly", "nll", "pixels", None),
        ("gradient", "flow", "pixels", None),
    ],
)
def test_a_variant_is_judged_by_the_map_asked_for_or_the_first_that_it_makes(
    method: str, asked: str, target: str, found: str | None
) -> None:
    score = {"map": asked, "reconstruction": "residual" if target == "features" else "ssim"}
    settings = {"score": score, "decoder": {"target": target}}
    variants = [{"name": "v", "method": method, "settings": settings}]
    assert study(datasets=[{"name": "d"}], variants=variants).map_of("d", "v") == found


def test_a_gaussian_draws_only_where_images_are_drawn_for_it() -> None:
    few = {"training": {"max_normals": 5}}
    found = study(
        seeds=[3, 1],
        datasets=[{"name": "d"}, {"name": "e"}],
        variants=[
            {"name": "gaussian", "method": "gaussian"},
            {"name": "few", "method": "gaussian", "settings": few},
            {"name": "flow", "method": "flow"},
            {"name": "both", "method": "fusion", "members": ["gaussian", "few"]},
            {"name": "neither", "method": "fusion", "members": ["gaussian", "g"]},
            {"name": "g", "method": "gradient"},
            {"name": "seeds", "method": "fusion", "members": ["few"]},
        ],
    )
    drawn = {name: found.draws(name) for name in found.named}
    assert drawn == {
        **{"gaussian": False, "few": True, "flow": True, "both": True, "neither": False},
        **{"g": False, "seeds": True},
    }
    seeds = {name: found.seeds_of(name) for name in found.named}
    assert seeds == {
        **{"gaussian": [3], "few": [3, 1], "flow": [3, 1], "both": [3, 1], "neither": [3]},
        **{"g": [3], "seeds": [3]},
    }
    lone = {"name": "lone", "method": "fusion", "members": ["gaussian"]}
    with pytest.raises(ConfigError, match="gaussian draws no random numbers"):
        study(
            datasets=[{"name": "d"}], variants=[{"name": "gaussian", "method": "gaussian"}, lone]
        )
    # By a dataset's own settings too.
    datasets = [{"name": "d", "settings": few}, {"name": "e"}]
    again = study(
        seeds=[3, 1], datasets=datasets, variants=[{"name": "gaussian", "method": "gaussian"}]
    )
    assert again.seeds_of("gaussian") == [3, 1]


def test_seeds_are_drawn_where_anything_is_random() -> None:
    found = study(
        seeds=[3, 1, 2],
        variants=[
            {"name": "a"},
            {"name": "g", "method": "gradient"},
            {"name": "both", "method": "fusion", "members": ["g", "a"]},
            {"name": "ensemble", "method": "fusion", "members": ["a"]},
        ],
    )
    seeds = {name: found.seeds_of(name) for name in found.named}
    assert seeds == {"a": [3, 1, 2], "g": [3], "both": [3, 1, 2], "ensemble": [3]}


def test_a_study_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    """Without what is checked between entries: the run that wrote it did so."""
    found = study(
        datasets=[{"name": "btad", "settings": {"flow": {"steps": 3}}}],
        ablations=[{"name": "a", "of": "aeflow", "key": "loss.alpha", "values": [0.0, 1, 0.5]}],
        seeds=[0],
    )
    path = tmp_path / "study.json"
    content = found.model_dump(mode="json")
    path.write_text(json.dumps(content))
    again = read_study(path)
    assert again == found
    assert again.model_dump_json() == found.model_dump_json()
    assert [v.name for v in again.all_variants] == [v.name for v in found.all_variants]

    path.write_text(json.dumps(content | {"seeds": [1, 1]}))
    assert read_study(path).seeds == [1, 1]
    path.write_text(json.dumps(content | {"betas": [1]}))
    with pytest.raises(ConfigError, match=r"study\.json: unknown key 'betas'"):
        read_study(path)
    path.unlink()
    with pytest.raises(DataError, match=r"study\.json is missing"):
        read_study(path)
