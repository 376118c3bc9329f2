"""A real browser, for the pages that the project writes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# What is asked of a page: WCAG 2.1 A and AA (contrast, names, alt texts), by axe-core.
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def until(page: Any, expression: str) -> None:
    """Wait for a condition of a page; playwright's own way evaluates text, which a CSP forbids."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression}")


@pytest.fixture(scope="module")  # a session's would leave an event loop running for other tests
def chromium() -> Iterator[Any]:
    """The system's Chromium, headless."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a file in a browser of its own; the test fails if the page complains or asks a server.

    `open_page(path, fragment="", width=1280, height=900, dark=False)` returns playwright's Page.
    """
    contexts, wrong = [], list[str]()

    def note_request(request: Any) -> None:
        if request.url.partition(":")[0] not in ("file", "data", "blob"):
            wrong.append(f"asks for {request.url[:200]}")

    def note_message(message: Any) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"console: {message.text}")

    def open_it(
        path: Path,
        fragment: str = "",
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
    ) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.goto(path.resolve().as_uri() + fragment)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def check_accessible() -> Callable[[Any], None]:
    """Check contrast, names and alt texts of what a page shows now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        found = axe.run(page, options=WCAG)
        assert found.violations_count == 0, found.generate_report()

    return check
