"""The configuration: typos, ranges, which settings a cell has, which trainings are shared."""

import json
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.schema import validate
from aeflow.study.settings import FitSettings
from aeflow.study.study import Study, read_study


def study(**content: Any) -> Study:
    return validate(Study, content, "configuration")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"flwo": {}}, ["unknown key 'flwo'", "did you mean 'flow'"]),
        ({"flow": {"stpes": 3}}, ["unknown key 'flow.stpes'", "did you mean 'steps'"]),
        ({"flow": {"steps": 0}}, ["flow.steps", "greater than or equal to 1", "not 0"]),
        ({"training": {"lr": float("nan")}}, ["training.lr", "finite"]),
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
        **{"encoder": {"stage": 2}, "flow": {"clamp": 1.0}, "decoder": {"output": "tanh"}},
        **{"loss": {"alpha": 0.1}, "training": {"lr": 0.1}},
    }
    assert keys.keys() == FitSettings.model_fields.keys()
    changed = [{"name": section, "settings": {section: keys[section]}} for section in keys]
    found = study(datasets=[{"name": "d"}], variants=[{"name": "a"}, *changed])
    assert [found.trained_as("d", section) for section in keys] == list(keys)


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
