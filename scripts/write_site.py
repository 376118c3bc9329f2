"""Pages of the docs site that nobody writes: hooks of mkdocs (`make docs`, mkdocs.yml).

Docs lie where GitHub shows them. Here the pages of the repository's root join them, and what the
code says of itself: help of the command, keys of the configuration and of cards, the Python
interface. A link to any other file of the repository leads to a page of its text, or is a picture.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

from aeflow.cli import app
from aeflow.study.cards import DatasetCard, EncoderCard
from aeflow.study.study import Study

ROOT = Path(__file__).parents[1]
# Pages of the site by their place in the repository; what is in docs/ has its own.
OF_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r'(?P<before>\]\(|\b(?:src|srcset|href)=")(?P<place>[^)\s"#:]+)(?=[#)\s"])')
PYTHON = """\
# Python

Run Python in the repository's folder: paths of a study are seen from there. `load` and `Detector`
can be imported from `aeflow` itself. Examples: [Use what was trained](../detector.md#from-python).

## A study

::: aeflow.results.load

::: aeflow.results.Results

## A detector

::: aeflow.detector.detector.Detector

::: aeflow.detector.detector.Examined

## Errors

::: aeflow.core.errors
    options:
      show_root_heading: false
      show_root_toc_entry: false
"""
PICTURES = (".svg", ".png", ".jpg")
ELSEWHERE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
STUDY = """\
# Every key of a study

What is in no file has its default; an overlay says what differs. The same as a file:
[config.default.yaml](../../config/config.default.yaml).

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and what they and these link to."""
    written = {page: (ROOT / place).read_text("utf-8") for place, page in OF_ROOT.items()}
    written |= {
        "reference/commands.md": commands_page(),
        "reference/configuration.md": STUDY + keys_of(Study),
        "reference/cards.md": cards_page(),
        "reference/python.md": PYTHON,
    }
    for page, text in written.items():
        files.append(File.generated(config, page, content=text))
    for file in files.documentation_pages():
        for found in LINK.finditer(file.content_string):
            place = _place(file.src_uri, found["place"])
            page = _page(place)
            if page.startswith("repository/") and page not in files.src_uris:
                if page.endswith(PICTURES):
                    files.append(File.generated(config, page, abs_src_path=str(ROOT / place)))
                else:
                    files.append(File.generated(config, page, content=_shown(place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between files of the repository lead to the pages of the site.

    A picture on another server, such as a badge, is the text that stands for it.
    """
    at = page.file.src_uri

    def lead(found: re.Match[str]) -> str:
        target = _page(_place(at, found["place"]))
        return found["before"] + posixpath.relpath(target, posixpath.dirname(at) or ".")

    return LINK.sub(lead, ELSEWHERE.sub(r"\1", markdown))


def _place(page: str, link: str) -> str:
    """Return where in the repository a relative link of a page leads."""
    back = {to: place for place, to in OF_ROOT.items()}
    own = back.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(own), link))


def _page(place: str) -> str:
    """Return the site's page of a file of the repository; of what is none, the place again."""
    if place in OF_ROOT:
        return OF_ROOT[place]
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    if not (ROOT / place).is_file():
        return place
    return (
        f"repository/{place}" if place.endswith((".md", *PICTURES)) else f"repository/{place}.md"
    )


def _shown(place: str) -> str:
    """Return the page of a file's text; of a table of a study, the table."""
    text, kind = (ROOT / place).read_text("utf-8").rstrip(), Path(place).suffix.removeprefix(".")
    return f"# {place}\n\n" + (text if kind == "md" else f"````{kind}\n{text}\n````") + "\n"


def commands_page() -> str:
    """Return the help of every command, as the command itself prints it."""
    command = typer.main.get_command(app)
    parts = [
        f"## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in _helps(command, "aeflow")
    ]
    return "# The command aeflow\n\n" + "\n".join(parts)


def _helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """Yield name and help of a command and of those below it."""
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=88
    )
    yield context.command_path, command.get_help(context)
    for child, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, child, context)


def cards_page() -> str:
    """Return the keys of a dataset's and of an encoder's card."""
    return (
        "# Every key of a card\n\nA card holds facts: `config/datasets/<name>.yaml` of a dataset, "
        "`config/encoders/<name>.yaml` of an encoder.\n\n"
        f"## Of a dataset\n\n{keys_of(DatasetCard)}\n## Of an encoder\n\n{keys_of(EncoderCard)}"
    )


def keys_of(model: type[BaseModel]) -> str:
    """Return a table of a model's keys, and one for each model inside it, by their schema."""
    schema = model.model_json_schema()
    parts = schema.get("$defs", {})
    told, waiting = [], [("", schema)]
    while waiting:
        name, section = waiting.pop(0)
        rows = ["| key | what | default | value |", "|---|---|---|---|"]
        for key, field in section["properties"].items():
            path = f"{name}.{key}" if name else key
            inside = [part for part in _models(field) if "properties" in parts[part]]
            waiting += [(path, parts[part]) for part in inside]
            what = _plain(field.get("description", ""))
            what = what or " ".join(_title(parts[part]) for part in inside)
            default = "" if inside or key in section.get("required", []) else _value(field)
            rows.append(f"| `{path}` | {what} | {default} | {_kind(field, parts)} |")
        head = f"### {name}\n\n{_title(section)}\n\n" if name else ""
        told.append(head + "\n".join(rows) + "\n")
    return "\n".join(told)


def _title(schema: dict[str, Any]) -> str:
    """Return the first paragraph of what a model is, in one line."""
    text: str = schema.get("description", "").partition("\n\n")[0]
    return _plain(" ".join(text.split()))


def _plain(text: str) -> str:
    """Return text in which only `code` means something to Markdown."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(part if part[:1] == "`" else part.replace("<", "&lt;") for part in parts)


def _models(field: dict[str, Any]) -> list[str]:
    """Return the names of the models that a value, or each item of a list, may be."""
    return list(dict.fromkeys(re.findall(r"'\$ref': '#/\$defs/(\w+)'", str(field))))


def _value(field: dict[str, Any]) -> str:
    """Return a key's default as YAML writes it."""
    return f"`{yaml.safe_dump(field.get('default'), default_flow_style=True).splitlines()[0]}`"


def _kind(field: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return what a value may be, in words."""
    if "$ref" in field:
        part = parts[field["$ref"].rpartition("/")[2]]
        return _kind(part, parts) if "enum" in part else "keys of its own"
    if several := field.get("anyOf") or field.get("oneOf"):
        kinds = [_kind(one, parts) for one in several if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list: {_kind(items, parts)}"
    if kind == "object":
        items = field.get("additionalProperties")
        return f"name: {_kind(items, parts)}" if isinstance(items, dict) else "keys"
    if kind in ("integer", "number"):
        return f"{kind}{_bounds(field)}"
    words = {"boolean": "`true`, `false`", "string": "text", None: "any"}
    return words[kind]


def _bounds(field: dict[str, Any]) -> str:
    limits = [
        f"{sign} {field[name]:,}".removesuffix(".0")
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in field
    ]
    return " " + ", ".join(limits) if limits else ""
