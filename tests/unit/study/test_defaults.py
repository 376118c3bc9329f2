"""The files of the configuration: what is generated, what is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aeflow.core.errors import ConfigError
from aeflow.core.schema import validate
from aeflow.study.defaults import default_yaml, load_study, schema_json
from aeflow.study.study import Study


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.default.yaml", default_yaml), ("config.schema.json", schema_json)],
)
def test_generated_files_are_up_to_date(name: str, content: Callable[[], str]) -> None:
    assert Path("config", name).read_text() == content(), "python scripts/write_generated.py"


def test_the_default_file_names_what_a_key_can_be() -> None:
    text = " ".join(default_yaml().replace("#", " ").split())
    for listed in ("One of: conv, resnet.", "One of: none, position.", "Any of: dvclive, ten"):
        assert listed in text
    assert "One of: density, latent_energy, nll, " in text


def test_the_default_file_holds_every_default() -> None:
    assert validate(Study, yaml.safe_load(default_yaml()), "default") == Study()


@pytest.mark.parametrize(
    "path", sorted(Path("config").glob("studies/*.yaml")), ids=lambda p: p.stem
)
def test_every_overlay_is_a_study(path: Path) -> None:
    assert load_study([path]).study == path.stem


@pytest.mark.parametrize("variant", ["aeflow", "aeflow_flow_score"])
def test_the_published_study_has_the_recipe_of_the_paper_as_faithful_has_it(variant: str) -> None:
    """Whatever its other variants share; once they shared a standardisation of maps with it."""
    published, faithful = (
        load_study([Path(f"config/studies/{name}.yaml")]).cell("chest_xray", variant).model_dump()
        for name in ("cpu", "faithful")
    )
    # Of other methods and scores, or what null says for one stage.
    for section, key in (("gaussian", "ridge"), ("score", "top_share"), ("maps", "standardise")):
        found = published[section].pop(key), faithful[section].pop(key)
        assert section != "maps" or found == ("none", None)
    assert published == faithful


def test_overlays_merge_mappings_and_replace_lists(tmp_path: Path) -> None:
    """As Snakemake does."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("study: ours\nseeds: [7, 8]\nflow: {steps: 3, clamp: 1.5}\nablations: []\n")
    second.write_text("flow: {steps: 4}\n")
    study = load_study([first, second])
    assert (study.study, study.seeds, study.flow.steps, study.flow.clamp) == (
        "ours",
        [7, 8],
        4,
        1.5,
    )
    assert study.flow.subnet == Study().flow.subnet
    assert [entry.name for entry in study.datasets] == [e.name for e in load_study().datasets]
    second.write_text("flwo: {}\n")
    with pytest.raises(ConfigError, match="unknown key 'flwo'"):
        load_study([second])
