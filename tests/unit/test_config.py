"""The configuration: generated files, typos, ranges, and which trainings are shared."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aeflow.cards import DatasetCard, Layout, check_encoders, load_dataset_card, load_encoder_card
from aeflow.config import Study
from aeflow.config_files import default_yaml, schema_json
from aeflow.errors import ConfigError
from aeflow.validation import validate


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.default.yaml", default_yaml), ("config.schema.json", schema_json)],
)
def test_generated_files_are_up_to_date(name: str, content: Any) -> None:
    assert Path("config", name).read_text() == content(), "run python scripts/write_config.py"


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


def test_encoders_with_a_card_or_weights_need_no_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["efficientnet_lite0", "resnet18"]
    (tmp_path / "resnet18.json").touch()
    monkeypatch.setattr("sys.executable", "/bin/false")
    check_encoders(names, tmp_path)
    (tmp_path / "resnet18.json").unlink()
    with pytest.raises(ConfigError, match="look-up of encoders was killed"):
        check_encoders(names, tmp_path)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"image": "(?P<split"}, "layout.image: is no regular expression"),
        ({"image": "(?P<split>a)"}, "image has no group named defect"),
        ({"mask": "masks/{stem}_{number}.png"}, "layout: mask uses number, no group of image"),
    ],
)
def test_a_layout_that_cannot_work_is_refused(layout: dict[str, str], words: str) -> None:
    good = {"image": "(?P<split>train|test)/(?P<defect>.*)/(?P<stem>.*).png", "normal": "good"}
    assert validate(Layout, {**good, "mask": "masks/{stem}.png"}, "layout")
    with pytest.raises(ConfigError, match=words):
        validate(DatasetCard, {"layout": {**good, **layout}}, "config/datasets/mine.yaml")


def test_every_card_is_valid() -> None:
    datasets = [path.stem for path in Path("config/datasets").glob("*.yaml")]
    encoders = [path.stem for path in Path("config/encoders").glob("*.yaml")]
    assert {"chest_xray", "demo_textures"} <= set(datasets)
    for name in datasets:
        load_dataset_card(name)
    for name in encoders:
        load_encoder_card(name)


def test_an_unknown_category_suggests_the_closest() -> None:
    card = load_dataset_card("demo_textures")
    card.check_categories(None)
    card.check_categories(["gravel"])
    with pytest.raises(ConfigError, match="did you mean 'gravel'"):
        card.check_categories(["gravle"])
