"""Cards: all are valid, and what is wrong with one is said."""

from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError
from aeflow.core.schema import load_yaml, validate
from aeflow.study.cards import (
    DATASET_CARDS,
    ENCODER_CARDS,
    DatasetCard,
    check_encoders,
    load_dataset_card,
    load_encoder_card,
)
from aeflow.study.layouts import Layout

CARD = load_yaml(DATASET_CARDS / "folder_mvtec.yaml")


def test_every_card_is_valid() -> None:
    names = [path.stem for path in DATASET_CARDS.glob("*.yaml")]
    assert {"chest_xray", "demo_textures"} <= set(names)
    for name in names:
        for edition in load_dataset_card(name).editions:
            load_dataset_card(name, edition=edition)
    for path in ENCODER_CARDS.glob("*.yaml"):
        load_encoder_card(path.stem)


def test_what_is_not_there_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no dataset card 'chest_xrya'.* Did you mean 'chest_x"):
        load_dataset_card("chest_xrya")
    with pytest.raises(ConfigError, match=r"own `card` says the layout: folder_list, folder_"):
        load_dataset_card("dicoms")
    with pytest.raises(ConfigError, match="Did you mean 'wide_resnet50_2'"):
        load_encoder_card("wide_resnet50")
    card = load_dataset_card("demo_textures")
    card.check_categories(None)
    card.check_categories(["gravel"])
    card.check_categories(["all", "brick"])
    with pytest.raises(ConfigError, match="did you mean 'gravel'"):
        card.check_categories(["gravle"])
    with pytest.raises(ConfigError, match=r"no category 'All' \(has: "):
        card.check_categories(["All"])
    (tmp_path / "mine.yaml").write_text("name: yours")
    with pytest.raises(ConfigError, match=r"name is 'yours' but the file is called 'mine'"):
        load_dataset_card("mine", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"all": None, "a": None}}, "category 'all' beside others"),
        ({"counts": {}}, "counts: "),
        ({"counts": {"all": {"trian": 1}}}, r"'counts\.all\.trian' \(did you mean 'train'\?\)"),
        ({"files": [{"name": "x.zip"}, {"name": "x.tar.gz"}]}, "two files have the same name"),
        ({"access": "request"}, "request and a recipe belong together"),
        ({"recipe": ["Ask."]}, "request and a recipe belong together"),
        ({"conversion": {"kind": "medmnist", "clases": []}}, "did you mean 'classes'"),
    ],
)
def test_a_mistake_in_a_card(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(DatasetCard, CARD | changes, "card")


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
