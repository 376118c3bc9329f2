"""The configuration: generated files, typos, ranges, and which trainings are shared."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aeflow.core.errors import ConfigError
from aeflow.core.schema import validate
from aeflow.study.cards import check_encoders, load_dataset_card, load_encoder_card
from aeflow.study.defaults import default_yaml, load_study, schema_json
from aeflow.study.layouts import Layout
from aeflow.study.study import Study


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.default.yaml", default_yaml), ("config.schema.json", schema_json)],
)
def test_generated_files_are_up_to_date(name: str, content: Any) -> None:
    assert Path("config", name).read_text() == content(), "run python scripts/write_config.py"


def test_overlays_merge_mappings_and_replace_lists(tmp_path: Path) -> None:
    """As Snakemake does."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("study: ours\nseeds: [7]\nflow: {steps: 3, clamp: 1.5}\nablations: []\n")
    second.write_text("flow: {steps: 4}\n")
    study = load_study([first, second])
    assert (study.study, study.seeds, study.flow.steps, study.flow.clamp) == ("ours", [7], 4, 1.5)
    assert study.flow.subnet == Study().flow.subnet
    assert [entry.name for entry in study.datasets] == [e.name for e in load_study().datasets]
    second.write_text("flwo: {}\n")
    with pytest.raises(ConfigError, match="unknown key 'flwo'"):
        load_study([second])


def test_the_default_file_holds_every_default() -> None:
    assert validate(Study, yaml.safe_load(default_yaml()), "default") == Study()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"flwo": {}}, ["'flwo'", "did you mean 'flow'"]),
        ({"flow": {"stpes": 3}}, ["'flow.stpes'", "did you mean 'steps'"]),
        ({"flow": {"steps": 0}}, ["flow.steps", "greater than or equal to 1", "not 0"]),
        ({"score": {"beta": 1.5}}, ["score.beta", "less than or equal to 1"]),
        ({"training": {"lr": float("nan")}}, ["training.lr", "finite"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [1, 1]}, ["seeds names 1 twice"]),
        ({"seeds": [-1]}, ["seeds must not be negative"]),
        ({"study": "../elsewhere"}, ["study"]),
        ({"data": {"image_size": 100}}, ["data.image_size", "multiple of 32"]),
        (
            {"variants": [{"name": "a", "settings": {"flow": {"stps": 1}}}]},
            ["variants[a].settings", "'flow.stps'", "did you mean 'steps'"],
        ),
        ({"variants": [{"name": "a", "settings": {"flow": 3}}]}, ["variants[a].settings.flow"]),
        (
            {"datasets": [{"name": "x", "settings": {"flow": {"steps": 99}}}]},
            ["datasets[x].settings", "flow.steps"],
        ),
    ],
)
def test_a_mistake_is_named(content: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Study, content, "configuration")
    for word in words:
        assert word in str(caught.value)


def test_a_cell_takes_the_studys_then_the_datasets_then_the_variants_settings() -> None:
    study = Study.model_validate(
        {
            "flow": {"steps": 2, "clamp": 1.0},
            "datasets": [{"name": "d", "settings": {"flow": {"steps": 3, "subnet": "resnet"}}}],
            "variants": [{"name": "v", "settings": {"flow": {"steps": 4}}}, {"name": "w"}],
        }
    )
    flow = study.cell("d", "v").flow
    assert (flow.steps, flow.subnet, flow.clamp) == (4, "resnet", 1.0)
    assert study.cell("d", "w").flow.steps == 3


def test_variants_that_differ_in_score_alone_share_a_training() -> None:
    study = Study.model_validate(
        {
            "datasets": [{"name": "d"}],
            "variants": [
                {"name": "a"},
                {"name": "beta", "settings": {"score": {"beta": 0.1}}},
                {"name": "deep", "settings": {"flow": {"steps": 12}}},
                {"name": "g", "method": "gradient"},
                {"name": "h", "method": "gradient", "settings": {"flow": {"steps": 3}}},
            ],
        }
    )
    trained = [study.trained_as("d", variant.name) for variant in study.variants]
    assert trained == ["a", "a", "deep", "g", "g"]


def test_an_unknown_card_suggests_the_closest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'chest_xray'"):
        load_dataset_card("chest_xrya")
    with pytest.raises(ConfigError, match="Did you mean 'wide_resnet50_2'"):
        load_encoder_card("wide_resnet50")


def test_encoders_with_a_card_or_weights_or_in_timm_need_no_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["efficientnet_lite0", "resnet18", "googlenet"]  # torchvision alone has the last
    (tmp_path / "googlenet.json").touch()
    monkeypatch.setattr("sys.executable", "/bin/false")
    check_encoders(names, tmp_path)
    (tmp_path / "googlenet.json").unlink()
    with pytest.raises(ConfigError, match="look-up of encoders was killed"):
        check_encoders(names, tmp_path)


def test_an_entry_names_its_card_edition_and_split() -> None:
    study = Study.model_validate(
        {
            "datasets": [
                {"name": "oct2017"},
                {"name": "disjoint", "card": "oct2017", "split": "patient_disjoint"},
                {"name": "small", "card": "pneumoniamnist", "edition": "64"},
                {"name": "screws", "card": "folder_mvtec", "source": "/data/screws"},
            ]
        }
    )
    cards = study.load_cards()
    assert [cards[name].split for name in ("oct2017", "disjoint")] == [
        "official",
        "patient_disjoint",
    ]
    assert [file.name for file in cards["small"].files] == ["pneumoniamnist_64.npz"]
    archives = [entry.archive for entry in study.datasets]
    assert archives == ["oct2017", "oct2017", "pneumoniamnist-64", "screws"]


def test_one_archive_cannot_be_two() -> None:
    entries = [{"name": "a", "card": "oct2017"}, {"name": "oct2017", "source": "/data/oct"}]
    with pytest.raises(ConfigError, match="a and oct2017 would both be fetched to data/raw/"):
        validate(Study, {"datasets": entries}, "configuration")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "pneumoniamnist", "edition": "65"}, r"no edition '65' \(has: 64, 128, 224\)"),
        ({"name": "screws", "card": "folder_two"}, r"datasets\[screws\]: give a `source`"),
        ({"name": "x", "card": "folder_tow"}, "Did you mean 'folder_two'"),
    ],
)
def test_an_entry_without_what_it_needs(entry: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Study.model_validate({"datasets": [entry]}).load_cards()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({}, "either image or image_list"),
        ({"image": "(?P<defect>.)", "image_list": "x", "test_fraction": 0.2}, "either image or"),
        ({"image": "(?P<defect>.)"}, "no group named split"),
        ({"image": "(?P<split>.)"}, "no group named defect"),
        ({"image_list": "list.csv"}, "test_fraction is missing"),
        ({"image": "(?P<split"}, r"^card: image: is no regular expression"),
        ({"image": "(?P<split>.)(?P<defect>.)", "groups": "*.csv"}, "groups: is no regular"),
        (
            {"image": "(?P<split>.)(?P<defect>.)", "mask": "{defect}{stem}"},
            "mask uses stem, no group of image",
        ),
    ],
)
def test_an_incomplete_layout(layout: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Layout, {"normal": "good", **layout}, "card")


def test_every_card_is_valid() -> None:
    datasets = [path.stem for path in Path("config/datasets").glob("*.yaml")]
    encoders = [path.stem for path in Path("config/encoders").glob("*.yaml")]
    assert {"chest_xray", "demo_textures"} <= set(datasets)
    for name in datasets:
        for edition in load_dataset_card(name).editions:
            load_dataset_card(name, edition=edition)
    for name in encoders:
        load_encoder_card(name)


def test_an_unknown_category_suggests_the_closest() -> None:
    card = load_dataset_card("demo_textures")
    card.check_categories(None)
    card.check_categories(["gravel"])
    with pytest.raises(ConfigError, match="did you mean 'gravel'"):
        card.check_categories(["gravle"])
