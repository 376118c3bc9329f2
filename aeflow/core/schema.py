"""Validation of hand-written files: every mistake becomes a sentence that names the key."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aeflow.core.addresses import check_address, redacted
from aeflow.core.errors import ConfigError
from aeflow.core.text import UNSEEN, one_line

# Types of mistakes, beside pydantic's own.
TRUTH, ADDRESS = "truth_for_a_number", "address"
# Of all that enters a path or a command: nothing that a shell would read, and short enough for
# three of them, joined, to be the name of a file.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
NAME_RULE = "a name is 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or a digit"
# What some file systems cannot hold, and what would be taken for another file's record in DVC.
NO_NAME = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*(\.|\.dvc)")


def _check_address(source: str) -> str:
    try:
        return check_address(source)
    except ValueError as error:
        # A type of its own: the sentence must not show what is wrong.
        raise PydanticCustomError(ADDRESS, "{said}", {"said": str(error)}) from None


def _check_name(name: str) -> str:
    if NO_NAME.fullmatch(name):
        raise ValueError("such a name is not free on every file system, or belongs to DVC")
    return name


def _check_label(label: str) -> str:
    if fault := label_fault(label):
        raise ValueError(f"a label is shown to people, and this {fault}")
    if len(label) > MAX_SHOWN_LABEL:
        raise ValueError(f"a label has {MAX_SHOWN_LABEL} characters or fewer, to fit a figure")
    if label[0] in "_ " or label[-1] == " ":
        raise ValueError("a label begins with no `_`, and begins and ends with no blank")
    return label


Name = Annotated[str, Field(pattern=NAME), AfterValidator(_check_name)]
Label = Annotated[str, AfterValidator(_check_label)]  # what people see in the place of a name
Address = Annotated[str, AfterValidator(_check_address)]
WEB_PAGE = r"^https?://[A-Za-z0-9][^\s<>\"'`\\]*$"
WebPage = Annotated[str, Field(pattern=WEB_PAGE)]
RULES = {NAME: NAME_RULE, WEB_PAGE: "a page begins with http:// or https://"}
# Seeds of numpy and torch alike.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# Of a hand-written file and of what Snakemake made of several: far above any study that could be
# run, and read in a second.
MAX_BYTES = 2**22
MAX_VALUES = 300_000
MAX_DEPTH = 30
MAX_TEXT = 20_000
MAX_LABEL = 100
MAX_SHOWN_LABEL = 40
MAX_SHOWN = 80
MAX_KEYS = 12  # of a section that has more, the first are named
MAX_MISTAKES = 10
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, content: Any) -> Any:
        """Refuse true and false where pydantic would read them as 1 and 0."""
        for name, value in content.items() if isinstance(content, dict) else ():
            kind = type(value)
            if kind is bool or (
                kind in (list, tuple) and any(type(item) is bool for item in value)
            ):
                field = cls.model_fields.get(name)
                kinds = set(_kinds(field.annotation)) if field else set()
                if kinds & {int, float} and bool not in kinds:
                    raise PydanticCustomError(TRUTH, "a number is needed", {"key": name})
        return content


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all it consists of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def label_fault(label: str) -> str | None:
    """Say why a label, of an image or a group, cannot be used; None: it can.

    What means something to a table, a figure or the page is escaped there.
    """
    if not label.strip():
        return "is empty"
    if found := UNSEEN.search(label) or next((c for c in "\n\t" if c in label), None):
        character = found if isinstance(found, str) else found[0]
        return f"holds a character that cannot be seen (U+{ord(character):04X})"
    if len(label) > MAX_LABEL:
        return f"has {len(label)} characters, more than {MAX_LABEL}"
    return None


def check_unique(key: str, names: Iterable[str]) -> None:
    """Check that no two names are one, as some file systems would have it.

    Raises:
        ValueError: names `key` and what is there twice.
    """
    listed = list(names)
    if twice := sorted(name for name, number in Counter(listed).items() if number > 1):
        raise ValueError(f"{key} names {', '.join(twice)} twice")
    first: dict[str, str] = {}
    for name in listed:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"{key} names {other} and {name}, which differ in case alone")


def validate(model: type[Model], content: Any, where: str, context: Any = None) -> Model:
    """Validate `content`, turning pydantic's report into one sentence per mistake.

    Args:
        where: it comes from, the start of the sentence.
        context: pydantic's, for the model's own checks.

    Raises:
        ConfigError: names `where`, the key, and what the key may be. Of an address it shows
            nothing that may be a secret.
    """
    check_size(content, where)
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        found = error.errors()
        mistakes = [_sentence(model, mistake) for mistake in found[:MAX_MISTAKES]]
        more = [f"and {len(found) - MAX_MISTAKES} more"] if found[MAX_MISTAKES:] else []
        # Not from the error: a traceback in a log would show what the sentence does not.
        told = one_line("; ".join([*mistakes, *more]))  # a key may hold a line break
        raise ConfigError(f"{where}: {told}.") from None


def check_size(content: Any, where: str) -> None:
    """Check that content is not larger, deeper or longer than one that a person writes.

    Raises:
        ConfigError: it is, or it holds characters that cannot be seen, or a key is no text.
    """
    waiting: list[tuple[Any, str, int]] = [(content, "", 0)]
    count = 0
    while waiting:
        value, key, depth = waiting.pop()
        count += 1
        fault = None
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise ConfigError(
                f"{where}: more than {MAX_VALUES:,} values, or {MAX_DEPTH} levels: no study is "
                "that large."
            )
        if isinstance(value, dict):
            wrong = [name for name in value if not isinstance(name, str)]
            if wrong:
                fault = f"keys should be strings, not {_shown(wrong[0])} (put it in quotes)"
            waiting += [(item, f"{key}.{name}", depth + 1) for name, item in value.items()]
            waiting += [(name, key, depth + 1) for name in value]
        elif isinstance(value, list | tuple):
            if count + len(value) > MAX_VALUES:
                value = value[: MAX_VALUES + 1]
            waiting += [(item, f"{key}.{place}", depth + 1) for place, item in enumerate(value)]
        elif isinstance(value, str):
            if found := UNSEEN.search(value):
                fault = f"a character that cannot be seen (U+{ord(found[0]):04X})"
            elif len(value) > MAX_TEXT:
                fault = f"a text of {len(value):,} characters, more than {MAX_TEXT:,}"
        elif isinstance(value, int) and abs(value) >= 10**30:
            fault = "a number of more than 30 digits"
        if fault:
            named = f"{one_line(redacted(key[1:]))}: " if key else ""
            raise ConfigError(f"{where}: {named}{fault}.")


def _sentence(model: type[BaseModel], mistake: Any) -> str:
    # pydantic's mark of a key that is wrong itself, not its value
    location = [str(part) for part in mistake["loc"] if part != "[key]"]
    if mistake["type"] == TRUTH:
        location.append(mistake["ctx"]["key"])
    key = one_line(redacted(".".join(location)))[: 2 * MAX_SHOWN]
    if mistake["type"] == "extra_forbidden":
        known = _keys_at(model.model_json_schema(), location[:-1])
        close = get_close_matches(location[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {_some(known)}"
        return f"unknown key '{key}' ({hint})"
    message = mistake["msg"].removeprefix("Value error, ")
    message = RULES.get(mistake.get("ctx", {}).get("pattern"), message)
    if mistake["type"] == "string_type" and isinstance(mistake["input"], int | float | date):
        message = "a text is needed: put it in quotes as it is to be read"
    whole = mistake["type"] == "value_error" and isinstance(mistake["input"], dict)  # says it all
    bare = not key or whole or mistake["type"] in ("missing", TRUTH, ADDRESS)
    given = "" if bare else f", not {_shown(mistake['input'])}"
    return f"{key + ': ' if key else ''}{message[0].lower() + message[1:]}{given}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:MAX_KEYS]) + (", ..." if len(keys) > MAX_KEYS else "")


def _shown(value: Any) -> str:
    """Return a value as a message shows it: short, and without what may be a secret."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(redacted(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


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
    """Read a YAML file.

    Raises:
        ConfigError: it is missing, no YAML in UTF-8, has a key twice, or is larger than one that
            a person writes, its aliases written out; names file and line.
    """
    import yaml  # not in jobs that read no YAML

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES:,} bytes: no such file is that large.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8: save it as UTF-8.") from None
    if found := UNSEEN.search(text.removeprefix("\ufeff").replace("\r\n", "\n")):
        line = text.count("\n", 0, text.index(found[0])) + 1
        seen = f"a character that cannot be seen (U+{ord(found[0]):04X})"
        raise ConfigError(f"{path}, line {line}: {seen}: remove it.")
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=fast):  # level by level: what composes, recurses
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{path} has more than {MAX_DEPTH} levels: nobody writes that.")
        loader = fast(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_nodes(node, path)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        told = " ".join(str(error.problem or error.context).split())
        tab = mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1])
        hint = " (YAML is indented by blanks, not by tabs)" if tab else ""
        raise ConfigError(f"{path} is no valid YAML: {place}{redacted(told)}{hint}.") from None
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{path} is no valid YAML: {redacted(told)}.") from None
    except (ValueError, TypeError, ArithmeticError) as error:  # a date of day 32, a vast number
        raise ConfigError(f"{path} is no valid YAML: {redacted(str(error))}.") from None


def _check_nodes(root: Any, path: Path) -> None:
    """Check a composed YAML document before anything is built from it.

    An alias stands for all of what it names: nine lines of nine aliases are 387 million values.
    """
    import yaml

    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        known = sizes.get(id(node))
        if known is not None:
            return known
        sizes[id(node)] = math.inf  # what holds itself
        total = 1.0
        if isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                total += size(key) + size(value)
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if (key.tag, key.value) in lines:
                        name = one_line(redacted(key.value))
                        first = lines[key.tag, key.value]
                        raise ConfigError(
                            f"{path}, line {line}: the key '{name}' stands there twice, first in "
                            f"line {first}: remove one of them."
                        )
                    lines[key.tag, key.value] = line
        elif isinstance(node, yaml.SequenceNode):
            total += sum(map(size, node.value))
        sizes[id(node)] = total
        return total

    if size(root) > MAX_VALUES:
        raise ConfigError(
            f"{path}: more than {MAX_VALUES:,} values, its aliases written out: no such file is "
            "that large."
        )
