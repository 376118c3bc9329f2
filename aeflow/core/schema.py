"""Validation of hand-written files: every mistake becomes a sentence that names the key."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from aeflow.core.errors import ConfigError

# Of all that enters a path or a command: nothing that a shell would read, and short enough.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
NAME_RULE = "a name is 1 to 100 letters, digits, `_`, `.` and `-`, the first a letter or a digit"
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validate(model: type[Model], content: Any, where: str, context: Any = None) -> Model:
    """Validate `content`, turning pydantic's report into one sentence per mistake.

    Args:
        where: it comes from, the start of the sentence.
        context: pydantic's, for the model's own checks.

    Raises:
        ConfigError: names `where`, the key, and what the key may be.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        mistakes = "; ".join(_sentence(model, mistake) for mistake in error.errors())
        raise ConfigError(f"{where}: {mistakes}.") from error


def _sentence(model: type[BaseModel], mistake: Any) -> str:
    # pydantic's mark of a key that is wrong itself, not its value
    location = [str(part) for part in mistake["loc"] if part != "[key]"]
    key = ".".join(location)
    if mistake["type"] == "extra_forbidden":
        known = _keys_at(model.model_json_schema(), location[:-1])
        close = get_close_matches(location[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key '{key}' ({hint})"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake.get("ctx", {}).get("pattern") == NAME:
        message = NAME_RULE
    given = "" if not key or mistake["type"] == "missing" else f", not {mistake['input']!r}"
    return f"{key + ': ' if key else ''}{message[0].lower() + message[1:]}{given}"


def _keys_at(schema: dict[str, Any], location: list[str]) -> list[str]:
    """Return the keys that are known at a location of a JSON schema."""
    node = schema
    for part in location:
        tagged = node.get("discriminator", {}).get("mapping", {})
        named = node.get("properties", {})
        free = node.get("patternProperties", {}).values()
        if part in tagged:
            node = {"$ref": tagged[part]}
        else:
            node = named.get(part) or node.get("items") or next(iter(free), {})
        for option in node.get("anyOf", []):
            if option.get("type") != "null":
                node = option
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return sorted(node.get("properties", {}))


def load_yaml(path: Path) -> Any:
    """Read a YAML file; ConfigError: it is missing or no YAML."""
    import yaml  # not in jobs that read no YAML

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
