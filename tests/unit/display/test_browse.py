"""The page to look at images, in a browser: many rows, hostile names, and what was written."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aeflow.display.browse import CHUNK, Cell, Group, Page, heat, write_page, write_pictures
from aeflow.scoring.gallery import as_file
from tests.conftest import until

HOSTILE = [
    "</script><script>window.hurt = 1</script>.png",
    "<img src=x onerror='window.hurt = 1'>.png",
    '=HYPERLINK("http://example.org")',
    "#image=1&variant=x%00%zz.png",
    'a "quoted", name\nof two lines\u2028.png',
    "'; window.hurt = 1; '.png",
]


def write(folder: Path, names: list[str], scores: list[float | None], **given: Any) -> Path:
    """Write a page of unlabelled images, whose pictures are of eight kinds."""
    chunks = list(range(0, len(names), CHUNK))
    content = {"path": names, "warnings": [""] * len(names), "errors": [""] * len(names)}
    group = Group("d", "all", "images0", ["image"], chunks, content | given)
    judged = {"test": [scores], "validation": [[0.0, 1.0, 2.0, 3.0]], "labels": [0] * 4}
    judged |= {"beta": None, "threshold": 2.5, "reason": None}
    cell = Cell(0, "v", None, "v", "maps0", ["map"], judged)
    gray = [as_file(np.full((16, 16, 3), 30 * level, np.uint8)) for level in range(8)]
    warm = [heat(np.full((4, 4), float(level)), (0.0, 5.0)) for level in range(8)]
    for first in chunks:
        rows = range(first, min(first + CHUNK, len(names)))
        images, maps = [gray[row % 8] for row in rows], [warm[row % 8] for row in rows]
        write_pictures(folder / "data", "images0", first, {"image": images})
        write_pictures(folder / "data", "maps0", first, {"map": maps})
    page = Page("Names", "", "path", "Detector", "Not here.", [group], [cell])
    write_page(folder / "page.html", folder / "data", page)
    return folder / "page.html"


def names_of(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".card .line:last-child").all_inner_texts()]


def test_ten_thousand_images_are_few_elements(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    count = 10_000
    scores = np.random.default_rng(0).permutation(count).astype(float)
    page = open_page(write(tmp_path, [f"{k:05d}.png" for k in range(count)], scores.tolist()))
    page.locator(".card").first.wait_for()
    assert page.locator("#told").inner_text().startswith("10000 of 10000 images")
    order = np.argsort(-scores)
    assert names_of(page)[:3] == [f"{k:05d}.png" for k in order[:3]]
    assert page.locator(".A .metrics td").inner_text() == f"{count - 3} of {count}"
    for place in (0.5, 1.0):
        page.evaluate(f"scrollTo(0, {place} * document.body.scrollHeight)")
        until(page, "scrollY > 1000")
        page.wait_for_timeout(300)
        assert 5 < page.locator(".card").count() < 150
        assert page.locator("*").count() < 3000
    assert f"{order[-1]:05d}.png" in names_of(page)
    last = page.locator(".card", has_text=f"{order[-1]:05d}.png").locator("img").first
    assert last.get_attribute("src").startswith("data:image/jpeg;base64,/9j/")


def test_names_never_become_markup_script_or_a_formula(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(write(tmp_path, HOSTILE, [float(k) for k in range(len(HOSTILE))]))
    page.locator(".card").first.wait_for()
    assert page.locator(".card").count() == len(HOSTILE)
    assert page.locator("#grid script, #grid [onerror]").count() == 0
    page.locator("#order").select_option("given")
    for row, name in enumerate(HOSTILE):
        page.locator(".card").nth(0).wait_for()
        link = page.locator(f"[aria-posinset='{row + 1}'] a").get_attribute("href")
        page.evaluate("link => location.hash = link", link)
        page.locator("#large[open]").wait_for()
        assert page.locator("#name").text_content() == name
        page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("#save").click()
    rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text(), newline="")))
    assert rows[0][0] == "path"
    guarded = [f"'{name}" if name[0] in "='" else name for name in HOSTILE]
    assert [row[0] for row in rows[1:]] == guarded
    assert page.evaluate("window.hurt") is None


IN_ORDER = (
    "[...document.querySelectorAll('.item')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
    ".map(item => item.innerText.trim())"
)


def test_an_image_without_a_score_comes_last_and_says_why(
    open_page: Callable[..., Any], check_accessible: Callable[..., None], tmp_path: Path
) -> None:
    errors = {"errors": ["", "It is cut off.", ""], "warnings": ["12 bits, not 8", "", ""]}
    page = open_page(write(tmp_path, ["x/a", "x/b", "x/c"], [2.0, None, 3.0], **errors))
    for order, names in (("high", ["c", "a", "b"]), ("low", ["a", "c", "b"])):
        page.locator("#order").select_option(order)
        until(
            page, f"{IN_ORDER}.map(text => text.split('\\n').pop()).join() === '{','.join(names)}'"
        )
    placed = page.evaluate(IN_ORDER)
    assert "It is cut off." in placed[-1]
    assert "could not be used" in placed[-1]
    assert "12 bits, not 8" in placed[0]
    assert page.locator(".A .validation").inner_text() == (
        "Of the validation images 1 of 4 normal would be called anomalous."
    )
    page.locator("#show").select_option("error")
    until(page, "document.querySelectorAll('.card').length === 1")
    check_accessible(page)


def test_without_its_folder_the_page_says_what_to_do(tmp_path: Path, chromium: Any) -> None:
    path = write(tmp_path, ["a"], [1.0])
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    page = chromium.new_page()
    page.goto(path.as_uri())
    page.locator("#absent:visible").wait_for()
    assert page.locator("#absent").inner_text() == "Not here."
    page.close()


def test_colours_of_a_map_begin_at_the_ordinary_and_turn_where_it_is_high() -> None:
    values = np.array([[-5.0, 1.0, 1.9], [3.1, 5.0, np.nan]])
    pixels = np.asarray(Image.open(io.BytesIO(heat(values, (1.0, 3.0)))).convert("RGBA"))
    opacity, green = pixels[..., 3].astype(int), pixels[..., 1].astype(int)
    assert opacity[0, 0] == opacity[0, 1] == opacity[1, 2] == 0
    assert 0 < opacity[0, 2] < opacity[1, 0] < opacity[1, 1]
    assert green[0, 2] == 90 < 110 < green[1, 0] < green[1, 1]
    flat = np.asarray(Image.open(io.BytesIO(heat(np.ones((2, 2)), (1.0, 1.0)))).convert("RGBA"))
    assert not flat[..., 3].any()


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "{{ script }}"])
def test_text_cannot_end_the_data_of_the_page(text: str, tmp_path: Path) -> None:
    page = Page(text, text, "path", "Detector", "", [], [], [text])
    write_page(tmp_path / "page.html", tmp_path / "data", page)
    content = (tmp_path / "page.html").read_text()
    data = content.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["title"] == text
    assert "<" not in data
