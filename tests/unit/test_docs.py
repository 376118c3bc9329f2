"""README and docs say what is so, as far as a machine can tell."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pytest

from aeflow.report.contents import FIGURES, TABLES
from aeflow.study.cards import DATASET_CARDS
from aeflow.study.cells import CELL, PATHS, PAYLOAD, STEPS
from aeflow.study.study import Study
from tests.unit.test_layers import ROOMS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PUBLISHED = "docs/results"  # what an earlier version said of a study; its page is written by hand
DOCS = [README, *sorted(ROOT.glob("docs/*.md"))]
DOCS += [ROOT / folder / "README.md" for folder in (PUBLISHED, "results")]
DOCS += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
MARKDOWN = sorted({*DOCS, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
TOP = "aeflow|benchmarks|config|docs|profiles|scripts|tests|workflow"

# Rules, scripts, functions and files that were once, each a word that means nothing else.
GONE = re.compile(
    r"\b(?:scored_as|read_scored|score_gradient|fit_peer|evaluate_ensembles|sweep_weighting"
    r"|aggregate_metrics|make_tables|compare_variants|choose_setting|collect_ablations"
    r"|measure_complexity|explain_scores|plot_risk|plot_complexity|weighting_sweep"
    r"|complexity_corrected|write_lock|write_config|cluster\.smk|analysis\.(?:betas|ensembles)"
    r"|data/manifests|risk\.csv|ensembles\.(?:csv|md|tex))\b"
    # Modules that moved or went; the words alone are also plain English.
    r"|\baeflow[./](?:\w+[./])*(?:assembly|baselines|combination|comparison|differences|examination"
    r"|illustration|inference|logging|peers|provenance|recorded|replicates|reporting"
    r"|score_files|scored|training_state|validation|weighting)\b"
)


def listed(*patterns: str) -> list[str]:
    """Return the files of the repository, as git knows or would know them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in found.stdout.splitlines() if (ROOT / name).exists()]


def blocks(text: str) -> list[str]:
    """Return what stands between fences."""
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(doc: Path) -> str:
    """Return a page without what stands between fences, where # begins a comment."""
    return re.sub(r"^(`{3,}).*?^\1", "", doc.read_text(), flags=re.MULTILINE | re.DOTALL)


def rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first line begins with `head`."""
    _, found, after = text.partition(f"\n{head}")
    assert found, f"there is no table {head}"
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def quoted(text: str) -> set[str]:
    """Return what stands between backticks, `a.{b,c}` as a.b and a.c."""
    found = set()
    for words in re.findall(r"`([^`]+)`", text):
        parts = re.split(r"\{([\w.,]+)\}", words)
        found |= {"".join(chosen) for chosen in product(*(part.split(",") for part in parts))}
    return found


def told(name: str) -> str:
    """Return a path of `PATHS` as docs/files.md writes it."""
    pattern = PATHS[name].replace(CELL, "<cell>").replace("{study}", "S")
    return re.sub(r"\{(\w+)\}", r"<\1>", pattern)


def test_the_readmes_tree_is_the_tree() -> None:
    (tree,) = (block for block in blocks(README.read_text()) if "Snakefile  " in block)
    named = {
        name.rstrip(",").rstrip("/")
        for line in tree.splitlines()
        if not line.startswith(" ")
        for name in line.partition("  ")[0].split()
    }
    tops = {name.partition("/")[0] for name in listed() if "/" in name}
    assert tops <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
    parts = re.findall(r"^(\w+)/ +(.*(?:\n +.*)*)", tree, re.MULTILINE)
    inside = {f"{top}/{part}" for top, text in parts for part in re.findall(r"(\w+)/[,; ]", text)}
    assert len(inside) > 3
    assert [name for name in inside if not (ROOT / name).exists()] == []


def test_the_table_of_steps_has_every_rule() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    table = rows(text, "| step | rule and script | module |")
    rules = "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    named = {word for _, rule, _ in table for word in quoted(rule) if word.isidentifier()}
    assert named == set(re.findall(r"^rule (\w+):$", rules, re.MULTILINE))


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(doc: Path) -> None:
    text = doc.read_text()
    files = re.findall(rf"(?<![\w/.])(?:{TOP})/[\w/.-]+\.\w+\b", text)
    folders = re.findall(rf"`((?:{TOP})/[\w/-]+/)`", text)
    modules = re.findall(r"`((?:core|study|judging|questions|scoring)/\w+)`", text)
    named = {*files, *folders, *(f"aeflow/{module}.py" for module in modules)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("doc", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(doc: Path) -> None:
    wrong = []
    links = re.findall(r"\]\(([^)\s]+)\)", prose(doc))
    links += re.findall(r'\b(?:src|srcset|href)="([^"]+)"', prose(doc))
    for link in links:
        place, _, anchor = link.partition("#")
        target = doc.parent / place if place else doc
        if "://" in link or (target.exists() and not anchor):
            continue
        heads = re.findall(r"^#+ (.+)$", prose(target), re.M) if target.is_file() else []
        anchors = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
        wrong += [link] * (anchor not in anchors)
    assert wrong == []


class Links(HTMLParser):
    """What a page of the site has: names that a link may lead to, and links.

    Attributes:
        names: of its elements.
        links: what a reader may follow.
        loaded: what a browser fetches by itself.
    """

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name"):
                self.names.add(value or "")
            elif key in ("href", "src"):
                (self.links if tag == "a" else self.loaded).append(value or "")


def test_the_site_has_no_dead_link_and_asks_no_other_server(tmp_path: Path) -> None:
    for library in ("material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(library) is None:
            pytest.skip("mkdocs-material is not installed: `make docs` installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page: Links(page) for page in tmp_path.rglob("*.html")}
    assert len(pages) > 40
    wrong, away = [], re.compile(r"(?:[a-z]+:)?//|data:")
    for page, found in pages.items():
        name = page.relative_to(tmp_path)
        wrong += [f"{name} loads {place}" for place in found.loaded if away.match(place)]
        for link in (*found.links, *found.loaded):
            place, _, anchor = unquote(link).partition("#")
            # The page for what is not found may be shown anywhere: its links begin at the top.
            top, place = (tmp_path, place[1:]) if place[:1] == "/" else (page.parent, place)
            target = (top / place).resolve() if place else page
            target = target / "index.html" if target.is_dir() else target
            there = target.exists() and (not anchor or anchor in pages[target].names)
            wrong += [f"{name} links to {link}"] * (not there and not away.match(link))
    for style in tmp_path.rglob("*.css"):
        loaded = re.findall(
            r"""(?:url\(|@import )['"]?((?:https?:)?//[^'")]+)""", style.read_text()
        )
        wrong += [f"{style.name} loads {place}" for place in loaded]
    assert wrong == []


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_key_of_the_configuration_is_one(doc: Path) -> None:
    sections = {name: field.annotation for name, field in Study.model_fields.items()}
    known = {
        f"{section}.{key}"
        for section, model in sections.items()
        for key in getattr(model, "model_fields", {})
    }
    owners = "|".join({key.partition(".")[0] for key in known})
    named = set(re.findall(rf"`((?:{owners})\.[a-z_]+)[`:]", doc.read_text()))
    assert {key for key in named if not (ROOT / key).exists()} <= known


def test_docs_files_has_the_paths_of_every_step() -> None:
    text = (ROOT / "docs/files.md").read_text()
    table = {
        rule.strip("`"): [quoted(cell) for cell in cells]
        for rule, *cells in rows(text, "| rule | receipt |")
    }
    for step, made in STEPS.items():
        receipt, small, payload = table.pop(step)
        assert receipt == {told(made.receipt)}, step
        assert small == {told(name) for name in made.makes if name not in PAYLOAD}, step
        assert payload == {told(name) for name in made.makes if name in PAYLOAD}, step
    shown = {name for cells in table.values() for cell in cells for name in cell}
    others = set(PATHS) - {n for step in STEPS.values() for n in (*step.makes, step.receipt)}
    assert {told(name) for name in others} <= shown


def test_docs_files_has_every_table_and_figure() -> None:
    text = (ROOT / "docs/files.md").read_text()
    names = [name.strip("`") for name, _ in rows(text, "| table | a row per |")]
    assert sorted(names) == sorted(f"{table}.csv" for table in TABLES)
    _, _, figures = text.partition("* `<of>` of a figure is")
    assert set(FIGURES) <= quoted(figures.partition("\n\n")[0])


def test_docs_architecture_has_the_rooms_from_the_ground_up() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    folders = [name for name in ROOMS if (ROOT / "aeflow" / name).is_dir()]
    sentences = {
        name: ast.get_docstring(ast.parse((ROOT / f"aeflow/{name}/__init__.py").read_text()))
        for name in folders
    }
    found = rows(text, "| room | what belongs there |")
    assert [(room.strip("`"), sentence) for room, sentence in found] == list(sentences.items())
    above = [f"`{name}.py`" for name in ROOMS if name not in folders and name != "__main__"]
    places = [text.index(name) for name in above]
    assert places == sorted(places)


def test_docs_datasets_has_every_card() -> None:
    table = rows((ROOT / "docs/datasets.md").read_text(), "| card | licence |")
    named = {name for card, *_ in table for name in quoted(card)}
    assert named == {path.stem for path in (ROOT / DATASET_CARDS).glob("*.yaml")}


def test_the_picture_of_the_datas_way_has_every_rule() -> None:
    picture = (ROOT / "docs/way_of_the_data.svg").read_text()
    drawn = set(re.findall(r">(\w+_\w+)</text>", picture))
    rules = "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    assert drawn == set(re.findall(r"^rule (\w+):$", rules, re.MULTILINE))


def test_docs_architecture_names_functions_where_they_are() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = r"`(\w+)`(?: or `(\w+)`)?(?: and `(\w+)`)?"
    pairs = re.findall(rf"{named} (?:in|of) `(aeflow/[\w/]+\.py)`", text)
    assert len(pairs) > 5
    for *names, file in pairs:
        source = (ROOT / file).read_text()
        for name in filter(None, names):
            assert re.search(rf"^\s*(?:def|class) {name}\b|^{name} = ", source, re.MULTILINE), name


def test_every_library_has_its_reason_and_no_other_has() -> None:
    text = (ROOT / "docs/dependencies.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    asked = set(re.findall(r'^    "([A-Za-z][\w-]*)[\[=<>"]', project, re.MULTILINE))
    asked |= set(re.findall(r'"(anomalib|FrEIA|dvc-s3|dvclive|tensorboard)[=>]', project))
    table = rows(text, "| library | for |")
    named = {
        library
        for libraries, *_ in table
        for library in re.sub(r"\*\w+:\*", "", libraries).replace(",", " ").split()
    }
    stubs = {name for name in asked if re.fullmatch(r"types-.+|.+-stubs", name)}
    assert {name.lower() for name in asked - stubs} == {n.lower() for n in named - {"stubs"}}


def test_every_target_of_make_is_one() -> None:
    targets = re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        target
        for doc in DOCS
        for target in re.findall(r"(?:`|^)make ([a-z./]+)", doc.read_text(), re.MULTILINE)
    }
    assert named <= set(targets)


def test_what_is_gone_is_named_no_more() -> None:
    own = Path(__file__).relative_to(ROOT).as_posix()
    names = listed("*.py", "*.smk", "*.md", "*.yaml", "Snakefile", "Makefile")
    found = [
        f"{name}:{number}: {match[0]}"
        for name in names
        if name != own and not name.startswith(PUBLISHED)
        for number, line in enumerate((ROOT / name).read_text().splitlines(), start=1)
        for match in GONE.finditer(line)
    ]
    assert found == []
