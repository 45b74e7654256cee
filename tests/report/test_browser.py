"""The page of ``dlkd report`` as a user meets it, in a real browser: phone, dark, keyboard, strange names."""

import io
import itertools
import os

import numpy as np
import pytest
from PIL import Image

from dlkd.report.page import Card, Section, Sections, Shelf, Table

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
REACHABLE = "a[href], button, input, select, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def made(runs, evil, good, tmp_path_factory):
    """The pages of ordinary runs and of strange ones."""
    folder = tmp_path_factory.mktemp("pages")
    good("report", "--runs", runs / "student", runs / "baseline", "--out", folder / "digits.html")
    good("report", "--runs", *evil, "--images", 3, "--out", folder / "evil.html")
    return folder


@pytest.mark.parametrize("name", ["digits", "evil"])
def test_on_a_phone_nothing_is_wider_than_the_page(made, visit, name):
    page = visit(made / f"{name}.html", **PHONE)
    for element in ("document.documentElement", "document.body"):
        assert page.evaluate(f"{element}.scrollWidth") == 360
    boxes = page.locator(".scroll").evaluate_all("all => all.map((box) => [box.scrollWidth, box.clientWidth])")
    assert len(boxes) == 4 and boxes[0][0] > boxes[0][1] and all(inner <= 360 for _, inner in boxes)
    edges = page.locator("img, h1, h2, h3, p, li").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect().right)"
    )
    assert max(edges) <= 360
    page.locator(".scroll").first.evaluate("box => { box.scrollLeft = 200; }")
    # The name of the run stays where it is while its figures go by.
    assert page.locator("tbody th").first.bounding_box()["x"] < 30
    assert page.evaluate("scrollX") == 0


def pixels(locator):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), float)


def luminance(page, name):
    return page.evaluate(
        """(name) => getComputedStyle(document.body)[name].match(/\\d+/g).slice(0, 3)
        .reduce((sum, part) => sum + Number(part), 0) / 3""",
        name,
    )


def test_light_and_dark(made, visit):
    seen = {}
    for scheme in ("light", "dark"):
        page = visit(made / "digits.html", color_scheme=scheme, viewport={"width": 1000, "height": 1300})
        seen[scheme] = [luminance(page, name) for name in ("backgroundColor", "color")]
        charts = page.locator("img.chart")
        assert charts.count() == 3
        for k in range(3):
            # Most of a chart is its ground, which is that of the page, or nearly.
            ground = np.median(pixels(charts.nth(k)), axis=(0, 1)).mean()
            assert abs(ground - seen[scheme][0]) < 15
        seen[f"{scheme} image"] = pixels(page.locator("img.small").first)
        page.evaluate("scrollTo(0, 0)")
        if folder := os.environ.get("DLKD_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/report{'-dark' if scheme == 'dark' else ''}.png")
    assert seen["light"][0] > 200 > 60 > seen["light"][1] and seen["dark"][0] < 60 < 200 < seen["dark"][1]
    # Photographs are not turned into their negatives.
    assert np.abs(seen["light image"] - seen["dark image"]).mean() < 12


def test_the_run_page_is_dark_too(runs, distill, good, visit, tmp_path):
    shown = [a for a in distill(tmp_path / "run", "--method", "dlkd") if a != "--engine.report"]
    at = len(shown) - 1 - shown[::-1].index("false")  # the value of the option that was taken out
    good(*(a for k, a in enumerate(shown) if k != at))
    page = visit(tmp_path / "run" / "report.html", color_scheme="dark", **PHONE)
    assert luminance(page, "backgroundColor") < 60 < 200 < luminance(page, "color")
    charts = page.locator("img.chart")
    assert charts.count() == page.locator("img").count() >= 3
    assert np.median(pixels(charts.first), axis=(0, 1)).mean() < 60
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_tab_key_reaches_everything_in_order(made, visit):
    page = visit(made / "digits.html")
    wanted = page.locator(REACHABLE).count()
    assert wanted == 1 + 8 + 4  # the way past the contents, the contents, and four tables
    page.evaluate(f'window.all = [...document.querySelectorAll("{REACHABLE}")]')
    for k in range(wanted):
        page.keyboard.press("Tab")
        assert page.evaluate("window.all.indexOf(document.activeElement)") == k
        box = page.evaluate(
            "(({left, right, width}) => [left, right, width])(document.activeElement.getBoundingClientRect())"
        )
        assert box[0] >= 0 and box[1] <= page.viewport_size["width"] and box[2] > 0  # the skip link is in sight
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_way_past_the_contents(made, visit):
    page = visit(made / "digits.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Figures"


def test_contents_lead_to_their_parts(made, visit):
    page = visit(made / "digits.html")
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(f"section{link.get_attribute('href')}")
        assert target.locator("h2").inner_text() == link.inner_text() and target.locator("h2").is_visible()


def test_headings_tables_and_pictures_have_names(made, visit):
    page = visit(made / "digits.html")
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(alt for alt in page.locator("img").evaluate_all("all => all.map((image) => image.alt)"))
    assert page.locator("img").evaluate_all("all => all.every((image) => image.complete && image.naturalWidth > 0)")
    for name in ("Figures", "Worst class pairs", "Accuracy by class", "Cost"):
        table = page.get_by_role("region", name=name, exact=True).and_(page.locator(".scroll")).get_by_role("table")
        assert table.get_by_role("columnheader").count() >= 4 and table.get_by_role("rowheader").count() >= 2


def test_names_are_text_and_nothing_of_them_runs(made, visit):
    page = visit(made / "evil.html")
    assert page.evaluate("window.hacked") is None and page.locator("script, svg, img[src=x], b").count() == 0
    rows = page.locator("#part-1 tbody th").all_text_contents()
    assert rows == ["_student $\\frac{$", "\"'><svg onload=alert(1)>"]
    classes = {*page.locator("#part-4 tbody th").all_text_contents()}
    assert "<script>window.hacked=1</script>" in classes
    assert """a "quoted" 'name' & &lt;b&gt; {{ 7*7 }}""" in classes


def test_the_page_itself_forbids_what_comes_from_elsewhere(made, visit):
    page = visit(made / "digits.html", expected="Content Security Policy")
    answer = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
        fetch("http://127.0.0.1:9/").catch(() => setTimeout(done, 1000, "asked"));
    })""")
    assert answer == "connect-src"


def test_what_is_folded_away_opens_by_key(tmp_path, visit):
    rows = [[f"class {k}", str(k)] for k in range(30)]
    section = Section(
        "Many",
        ["Words."],
        Table(["class", "n"], rows[:5]),
        shelves=[Shelf("None", [Card(["label x"], "image 1")])],
        more=Table(["class", "n"], rows[5:], "25 more classes"),
    )
    file = tmp_path / "p.html"
    file.write_text(Sections("T", "L", [section]).render(), encoding="utf-8")
    page = visit(file, **PHONE)
    assert page.get_by_text("no picture").is_visible() and not page.get_by_text("class 29").is_visible()
    page.get_by_text("25 more classes").focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("class 29").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "25 more classes"
