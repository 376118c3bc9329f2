"""The page in a real browser: what is folded, sorted, dark, narrow, and on paper."""

import pytest

from tests.unit.small_results import STRANGE


@pytest.fixture(scope="module")
def page_file(text, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(text)
    return file


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")


def test_questions_are_folded_and_open_for_a_link(page_file, open_page):
    page = open_page(page_file)
    assert page.locator("#answer .lead").first.is_visible()
    assert page.locator("#main table").is_visible()
    assert page.locator("#parts table").is_hidden()
    page.get_by_role("link", name="What does each part give").click()
    assert page.locator("#parts table").is_visible()
    assert page.locator("#claims table").is_hidden()
    assert open_page(page_file, "#defects-of-nobody").locator("#main table").is_visible()
    assert open_page(page_file, "#failures").locator("#failures table").is_visible()


def test_a_table_is_sorted_by_its_heads_and_saved(page_file, open_page):
    page = open_page(page_file)
    table = page.locator("#main table")

    def column(name):
        heads = [text.rstrip("↕↑↓ \xa0") for text in table.locator("th").all_inner_texts()]
        return table.locator(f"td:nth-child({heads.index(name) + 1})").all_inner_texts()

    given = column("AUROC")
    values = [float(text.split()[0]) for text in given]
    head = table.get_by_role("button", name="AUROC", exact=True).first
    head.click()
    assert [float(text.split()[0]) for text in column("AUROC")] == sorted(values)
    assert head.locator("..").get_attribute("aria-sort") == "ascending"
    head.press("Enter")  # the keyboard does it too
    assert [float(text.split()[0]) for text in column("AUROC")] == sorted(values, reverse=True)
    table.get_by_role("button", name="Variant").click()
    assert column("Variant") == sorted(column("Variant"))
    assert table.locator("th[aria-sort]").count() == 1
    for _ in range(2):
        table.get_by_role("button", name="Variant").click()
    assert column("AUROC") == given
    with page.expect_download() as saved:
        page.locator("#main a[download]").click()
    assert saved.value.path().read_text().startswith("dataset,variant,method,encoder,n_seeds")


def test_empty_cells_come_last_and_signs_count(page_file, open_page):
    page = open_page(page_file, "#parts")
    table = page.locator("#parts table")
    heads = table.locator("th").all_inner_texts()
    place = next(n for n, text in enumerate(heads) if text.startswith("Difference"))
    for more, button in enumerate([table.get_by_role("button", name="Difference")] * 2):
        button.click()
        cells = table.locator(f"td:nth-child({place + 1})").all_inner_texts()
        found = [float(text.replace("−", "-")) for text in cells if text]
        assert cells[len(found) :] == [""] * (len(cells) - len(found))
        assert found == sorted(found, reverse=bool(more))


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_and_names_bear_axe(page_file, open_page, check_accessible, dark):
    page = open_page(page_file, dark=dark)
    unfold(page)
    check_accessible(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
    drawn = page.locator(".drawn > svg").first
    turned = drawn.evaluate("each => getComputedStyle(each).filter")
    assert turned == ("invert(1) hue-rotate(180deg)" if dark else "none")


def test_nothing_of_a_name_is_run_or_read_as_a_tag(page_file, open_page, chromium):
    page = open_page(page_file)
    unfold(page)
    assert page.locator("td", has_text=" ".join(STRANGE.split())).count() > 0
    assert page.locator("td b").count() == 0
    alone = chromium.new_page()  # which may complain
    alone.goto(page_file.as_uri())
    forbidden = alone.evaluate(
        """() => new Promise(done => {
          addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
          document.body.innerHTML = '<img src="data:,x" onerror="window.ran = 1">';
        })"""
    )
    alone.close()
    assert forbidden == "script-src-attr"


def test_on_a_phone_the_page_itself_does_not_scroll_sideways(page_file, open_page):
    page = open_page(page_file, width=390)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    cut = "parts => parts.filter(each => each.getBoundingClientRect().right > 390).length"
    assert page.locator(".scroll, .headlines, .examples, p").evaluate_all(cut) == 0


def test_heads_stay_where_a_long_table_scrolls(page_file, open_page):
    page = open_page(page_file, "#dataset-tiles", height=300)
    part = page.locator("#dataset-tiles .scroll", has=page.locator("table")).last
    moved = part.evaluate(
        """each => {
          each.scrollIntoView();
          each.scrollTop = 60;
          const top = part => part.getBoundingClientRect().top;
          return [each.scrollTop, top(each.querySelector("th")) - top(each)];
        }"""
    )
    assert moved == [60, 0]


def test_on_paper_all_is_unfolded_and_no_column_is_cut(page_file, open_page):
    page = open_page(page_file, width=688)  # A4 without its margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    wide = "tables => tables.filter(each => each.getBoundingClientRect().right > 688).length"
    assert page.locator("table").evaluate_all(wide) == 0
    assert page.locator("nav").is_hidden()
    assert page.locator("thead th").first.evaluate("e => getComputedStyle(e).position") == "static"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#claims").get_attribute("open") is None
    assert page.pdf(format="A4").startswith(b"%PDF")
