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


def test_the_default_file_holds_every_default() -> None:
    assert validate(Study, yaml.safe_load(default_yaml()), "default") == Study()


@pytest.mark.parametrize(
    "path", sorted(Path("config").glob("studies/*.yaml")), ids=lambda p: p.stem
)
def test_every_overlay_is_a_study(path: Path) -> None:
    assert load_study([path]).study == path.stem


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
