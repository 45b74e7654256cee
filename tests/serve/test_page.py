"""The page as a user meets it, in a real browser: choose, drop or paste a picture, and read what is said of it."""

import base64
import os
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from waits import until

from dlkd.serve.page import render

GIVE = """([content, name, type, event]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), data = new DataTransfer();
    if (name) data.items.add(new File([bytes], name, { type }));
    const options = { bubbles: true, cancelable: true };
    const given = event === "paste" ? new ClipboardEvent(event, { ...options, clipboardData: data })
        : new DragEvent(event, { ...options, dataTransfer: data });
    document.getElementById("drop").dispatchEvent(given);
    return given.defaultPrevented;
}"""


def choose(page, content, name="picture.png", kind="image/png"):
    page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": content})


def give(page, event, content, name="picture.png", kind="image/png"):
    """Drop or paste a file; did the page take it?"""
    return page.evaluate(GIVE, [base64.b64encode(content).decode(), name, kind, event])


def read(page, card):
    """Classes and percents of a card, once it is there."""
    page.locator(f"#{card}").wait_for()
    lines = page.locator(f"#{card} li .line").all()
    return [(line.locator(".name").inner_text(), line.locator(".share").inner_text()) for line in lines]


def facts(page):
    names, values = (page.locator(f"#difficulty {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def words(classes):
    """Those of an answer, as the page writes them."""
    return [(each["label"], f"{100 * each['confidence']:.1f} %") for each in classes]


def error_of(page):
    page.locator("#error").wait_for()
    return page.locator("#error").inner_text()


def check(page, answer):
    """The page shows all of an answer."""
    assert read(page, "student") == words(answer["predictions"]) and len(answer["predictions"]) == 5
    assert read(page, "teacher") == words(answer["teacher"]) and read(page, "probe") == words(answer["probe"])
    said = facts(page)
    assert float(said["distance"]) == pytest.approx(answer["difficulty"]["distance"], rel=5e-3)
    level = answer["difficulty"]["level"]
    assert float(said["level"]) == pytest.approx(level, abs=5e-3)
    assert page.locator("#rank").inner_text() == f"Harder than {100 * level:.1f} % of the training views."
    assert float(said["temperature"]) == pytest.approx(answer["temperature"]["teacher"], rel=5e-3)
    best = answer["predictions"][0]
    assert page.locator("#status").inner_text() == f"The student says {words([best])[0][0]}, {words([best])[0][1]}."


def test_choose_a_picture(server, digits, visit):
    page = visit(server.url)
    assert page.title() == "student · dlkd serve" and not page.locator("#found").is_visible()
    assert not page.locator(".notes").count()
    for path in digits[:2]:
        content = path.read_bytes()
        choose(page, content, path.name)
        page.get_by_text(path.name).wait_for()
        check(page, server.predict(content).json)
        # The picture itself, its few pixels not smoothed.
        until(page, "document.querySelector('#picture.pixels')?.naturalWidth === 8")
        assert page.locator("#picture").get_attribute("src").startswith("blob:")
    width = page.evaluate("""[...document.querySelectorAll('#student .bar')].map((bar) =>
        bar.firstElementChild.getBoundingClientRect().width / bar.getBoundingClientRect().width)""")
    shares = [each["confidence"] for each in server.predict(digits[1].read_bytes()).json["predictions"]]
    assert width == pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_drop_or_paste_a_picture(server, digits, visit, event):
    page = visit(server.url)
    give(page, event, digits[2].read_bytes())
    check(page, server.predict(digits[2].read_bytes()).json)


def test_a_drop_anywhere_stays_on_the_page(server, visit):
    page = visit(server.url)
    # Else the browser would leave the page and open the file.
    assert give(page, "dragover", b"") and page.locator("#drop.over").count() == 1
    assert give(page, "drop", b"", "") and page.locator("#drop.over").count() == 0
    assert error_of(page) == "expected the file of a picture, but got none"


def test_by_keyboard_alone(server, digits, visit):
    page = visit(server.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    # The dialog itself belongs to the system; here a file comes without it.
    page.evaluate("""document.getElementById('file').addEventListener('click', (event) => {
        event.preventDefault();
        window.asked = true;
    })""")
    page.keyboard.press("Enter")
    until(page, "window.asked === true")
    choose(page, digits[0].read_bytes())
    check(page, server.predict(digits[0].read_bytes()).json)


def test_a_bad_file_shows_the_line_and_the_next_good_one_is_shown(server, digits, visit):
    page = visit(server.url, "status of 415")
    choose(page, digits[0].read_bytes())
    read(page, "student")
    choose(page, b"<html>no picture", "page.png")
    assert error_of(page) == server.predict(b"<html>no picture").error
    assert "in no known format" in error_of(page) and not page.locator("#found").is_visible()
    choose(page, digits[0].read_bytes())
    check(page, server.predict(digits[0].read_bytes()).json)
    assert not page.locator("#error").is_visible()


def test_what_is_too_large_is_not_sent(server, visit):
    page = visit(server.url)
    choose(page, bytes(10_000_001))
    assert error_of(page) == "expected a picture of at most 10,000,000 bytes, but got one of 10,000,001"


def test_a_picture_that_the_browser_cannot_show(server, visit, tmp_path):
    Image.new("L", (20, 20), 99).save(tmp_path / "picture.tiff")
    page = visit(server.url)
    choose(page, (tmp_path / "picture.tiff").read_bytes(), "picture.tiff", "image/tiff")
    check(page, server.predict((tmp_path / "picture.tiff").read_bytes()).json)
    page.get_by_text("browser cannot show it").wait_for()


def test_names_are_but_names(hostile, digits, visit):
    page = visit(hostile.url)
    choose(page, digits[0].read_bytes(), "<b onclick=hack()>.png")
    shown = dict(read(page, "student"))
    assert {"<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=2>", r"caf\xE9"} <= shown.keys()
    assert page.locator("h1").inner_text() == "<img src=x onerror=window.hacked=2>"
    assert page.locator("#caption").inner_text().startswith("<b onclick=hack()>.png")
    assert page.evaluate("window.hacked") is None and page.locator("#caption *").count() == 0
    assert page.locator(".notes li").all_inner_texts() == ["no teacher: the classes of its images are others now"]
    # The student alone: what is not known is not there.
    for card in ("teacher", "probe", "difficulty"):
        assert not page.locator(f"#{card}").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_and_night(server, digits, visit, scheme):
    page = visit(server.url, color_scheme=scheme, viewport={"width": 360, "height": 700})
    choose(page, digits[3].read_bytes(), f"{'a long name ' * 20}.png")
    read(page, "student")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    luminance = page.evaluate("""["backgroundColor", "color"].map((name) => getComputedStyle(document.body)[name]
        .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)""")
    darker, lighter = luminance if scheme == "dark" else luminance[::-1]
    assert darker < 50 and lighter > 200
    page.set_viewport_size({"width": 1000, "height": 860})
    hardest = max(digits, key=lambda path: server.predict(path.read_bytes()).json["difficulty"]["distance"])
    choose(page, hardest.read_bytes(), "digit.png")
    page.get_by_text("digit.png").wait_for()
    until(page, "document.querySelector('#picture.pixels') !== null")
    if folder := os.environ.get("DLKD_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/serve{'-dark' if scheme == 'dark' else ''}.png")


class Reader(HTMLParser):
    """Elements with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))


def test_nothing_refers_to_another_place():
    page, policy = render("<b>&\udce9", max_bytes=5, teacher=True, ranked=True, notes=["<i>"])
    elements = Reader(page).elements
    links = [v for _, a in elements for k, v in a.items() if k in ("src", "href", "action", "data", "srcset")]
    assert links == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for _, attributes in elements for name in attributes)
    assert not {"base", "iframe", "object", "b", "i"} & {tag for tag, _ in elements}
    assert not re.search(r"https?:|url\(|@import|import\(|innerHTML|\beval\b", page)
    assert "unsafe" not in policy and policy.count("'sha256-") == 3
    assert "&lt;b&gt;&amp;\\udce9" in page and "<li>&lt;i&gt;</li>" in page
