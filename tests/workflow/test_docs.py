"""Commands in Markdown behind `<!-- runs -->`, a word that no reader sees, run as they stand."""

import re
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, Repository, copy_repository

MARKED = re.compile(r"^<!-- runs -->\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {
    path.relative_to(ROOT).as_posix(): found
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if (found := MARKED.findall(path.read_text()))
}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    repository = Repository(copy_repository(tmp_path))
    repository.call("bash", "-euo", "pipefail", "-c", "\n".join(PAGES[page]))


def test_pages_have_such_commands() -> None:
    assert {"CONTRIBUTING.md", "docs/tutorial.md"} <= PAGES.keys()
