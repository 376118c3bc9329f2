"""A mistake in a hand-written file is a sentence that names the key and what it may be."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from aeflow.core.errors import ConfigError
from aeflow.core.schema import NAME, Strict, load_yaml, validate


class Leaf(Strict):
    name: str = Field("leaf", pattern=NAME)
    size: int | None = Field(None, ge=1)


class Round(Strict):
    kind: Literal["round"]
    radius: float


class Square(Strict):
    kind: Literal["square"]


class Tree(Strict):
    leaf: Leaf = Leaf()
    listed: list[Leaf] = Field([])
    optional: list[Leaf] | None = None
    named: dict[Annotated[str, Field(pattern=NAME)], Leaf | None] = Field({})
    shape: Annotated[Round | Square, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Tree":
        if len(self.listed) > 1:
            raise ValueError("Listed has two leaves")
        return self


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"laef": {}}, "unknown key 'laef' (did you mean 'leaf'?)"),
        ({"xyz": 1}, "unknown key 'xyz' (known keys: leaf, listed, named, optional, shape)"),
        ({"leaf": {"siez": 1}}, "unknown key 'leaf.siez' (did you mean 'size'?)"),
        ({"listed": [{"siez": 1}]}, "unknown key 'listed.0.siez' (did you mean 'size'?)"),
        ({"optional": [{"siez": 1}]}, "unknown key 'optional.0.siez' (did you mean 'size'?)"),
        ({"named": {"a": {"siez": 1}}}, "unknown key 'named.a.siez' (did you mean 'size'?)"),
        (
            {"shape": {"kind": "round", "raduis": 1}},
            "shape.round.radius: field required; unknown key 'shape.round.raduis' (did you mean "
            "'radius'?)",
        ),
        ({"leaf": {"size": 0}}, "leaf.size: input should be greater than or equal to 1, not 0"),
        ({"listed": [{}, {}]}, "listed has two leaves"),
        (
            {"named": {"a b": None}},
            "named.a b: a name is 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter "
            "or a digit, not 'a b'",
        ),
    ],
)
def test_a_mistake_is_a_sentence(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Tree, content, "tree.yaml")
    assert str(caught.value) == f"tree.yaml: {sentence}."


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^x: unknown key 'a' .*; unknown key 'b' .*\)\.$"):
        validate(Tree, {"a": 1, "b": 2}, "x")


def test_yaml_that_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "wrong.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match=r"wrong\.yaml is no valid YAML"):
        load_yaml(tmp_path / "wrong.yaml")
