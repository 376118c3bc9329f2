"""The files of the configuration: read as Snakemake does; every default and the schema written."""

import json
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aeflow.core.schema import load_yaml, validate
from aeflow.study.study import Study

HEADER = """\
# yaml-language-server: $schema=config.schema.json
# Every key with its default, from aeflow/study/ (`python scripts/write_generated.py`). Do not
# edit; put what differs into config.yaml or an overlay.
"""
DEFAULTS, CONFIG = Path("config/config.default.yaml"), Path("config/config.yaml")


def load_study(overlays: Sequence[Path] = ()) -> Study:
    """Return the study of config.default.yaml, config.yaml and overlays, the later one counts.

    Mappings are merged, lists replaced.
    """
    merged: Any = {}
    for path in (DEFAULTS, CONFIG, *overlays):
        merged = _merge(merged, load_yaml(path) or {})
    return validate(Study, merged, "configuration")


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merge(below.get(key), value) for key, value in above.items()}
    return above


def default_yaml() -> str:
    """Return config.default.yaml."""
    return HEADER + "\n".join(_lines(Study()))


def schema_json() -> str:
    """Return config.schema.json."""
    return json.dumps(Study.model_json_schema(), indent=2) + "\n"


def _lines(model: BaseModel, indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if isinstance(value, BaseModel):
            title = (type(value).__doc__ or "").splitlines()[0]
            lines += ["", f"{indent}# {title}", f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            lines += [*_comment(field, indent), *_entry(key, _plain(value), indent)]
    return [*lines, ""] if not indent else lines


def _comment(field: FieldInfo, indent: str) -> list[str]:
    choices = _choices(field.annotation)
    several = "Any" if get_origin(field.annotation) is list else "One"
    text = (field.description or "") + (f" {several} of: {', '.join(choices)}." if choices else "")
    return textwrap.wrap(text, 99, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _choices(kind: Any) -> list[str]:
    """Return the words that a key of this type can be, none where they are not listed."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [*kind]
    parts = get_args(kind)
    return (
        [*parts] if get_origin(kind) is Literal else [c for part in parts for c in _choices(part)]
    )


def _entry(key: str, value: Any, indent: str) -> list[str]:
    nested = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    text = yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=None)
    if not nested:
        text = text.strip().removeprefix("{").removesuffix("}")
    return [indent + line for line in text.splitlines()]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    return getattr(value, "value", value)
