"""Whatever enters a path or a command is a name, wherever it comes from."""

from collections.abc import Callable
from typing import Any

import pytest

from aeflow.core.errors import ConfigError
from aeflow.core.schema import load_yaml, validate
from aeflow.study.cards import DATASET_CARDS, DatasetCard, EncoderCard
from aeflow.study.study import Study

BAD = [
    *("a b", "a;b", "$(touch x)", "`x`", "a&b", "a|b", "a'b", 'a"b', "a\\b", "*", "~", "#"),
    *("../up", "/root", "a/b", "a\nb", "a\n", "ü", "x" * 65),
]
BAD_AT_THE_START = ["-rf", "--log", ".hidden", ""]
CARD = load_yaml(DATASET_CARDS / "folder_mvtec.yaml")
ENCODER = load_yaml(DATASET_CARDS.with_name("encoders") / "efficientnet_lite0.yaml")


def study(**content: Any) -> None:
    found = validate(Study, {"datasets": [{"name": "btad"}], **content}, "configuration")
    for entry in found.datasets:
        found.categories(entry.name)


def ablation(**changes: Any) -> None:
    depth = {"name": "depth", "of": "aeflow", "key": "flow.steps", "values": [1]}
    study(ablations=[depth | changes])


PLACES: dict[str, Callable[[str], Any]] = {
    "study": lambda name: study(study=name),
    "dataset": lambda name: study(datasets=[{"name": name, "card": "btad"}]),
    "card": lambda name: study(datasets=[{"name": "btad", "card": name}]),
    "edition": lambda name: study(datasets=[{"name": "pneumoniamnist", "edition": name}]),
    "category": lambda name: study(datasets=[{"name": "btad", "categories": [name]}]),
    "variant": lambda name: study(variants=[{"name": name}]),
    "reference": lambda name: study(analysis={"reference": name}),
    "encoder": lambda name: study(encoder={"name": name}),
    "encoder of a dataset": lambda name: study(
        datasets=[{"name": "btad", "settings": {"encoder": {"name": name}}}]
    ),
    "ablation": lambda name: ablation(name=name),
    "changed": lambda name: ablation(of=name),
    "value": lambda name: ablation(key="encoder.name", values=[name]),
    # Where no cell has the value, its key never sees it.
    "value elsewhere": lambda name: ablation(
        key="encoder.name", values=[name], datasets=["oct2017"]
    ),
    "value across": lambda name: ablation(across={"encoder.name": [name]}, datasets=["oct2017"]),
    "card's name": lambda name: validate(DatasetCard, CARD | {"name": name}, "card"),
    "card's category": lambda name: validate(DatasetCard, CARD | {"counts": {name: None}}, "card"),
    "card's edition": lambda name: validate(DatasetCard, CARD | {"editions": {name: {}}}, "card"),
    "card's file": lambda name: validate(DatasetCard, CARD | {"files": [{"name": name}]}, "card"),
    "encoder's name": lambda name: validate(EncoderCard, ENCODER | {"name": name}, "card"),
}


# Where only what is there may be named.
KNOWN = {"card": "oct2017", "edition": "64", "category": "01"}
KNOWN |= {"reference": "gradient", "changed": "aeflow"}


@pytest.mark.parametrize("place", PLACES)
def test_what_a_shell_would_read_is_no_name(place: str) -> None:
    starts = place not in ("value elsewhere", "value across")  # those follow `aeflow_depth_`
    for name in [*BAD, *(BAD_AT_THE_START if starts else [])]:
        with pytest.raises(ConfigError):
            PLACES[place](name)
    PLACES[place](KNOWN.get(place, "Good-1.x_"))


def test_a_number_with_spaces_is_no_part_of_a_name() -> None:
    """pydantic reads " 0.5" as 0.5, so the key would take it."""
    with pytest.raises(ConfigError, match=r"ablations\[depth\] makes a variant 'aeflow_depth_ 1'"):
        ablation(values=[" 1"])
