"""A report is one file, and nothing from outside becomes markup."""

import base64
import re
from html.parser import HTMLParser

import pytest

from dlkd.report import Page, Picture, pictures
from dlkd.report.page import DENSITY

EVIL = """<script>alert(1)</script> "quoted" 'single' & $\\alpha$ {{ 7*7 }} <img src=x onerror=alert(2)> :smile:"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def evil_page():
    return Page(
        title=EVIL,
        lead=EVIL,
        columns=[EVIL, "b"],
        rows=[[EVIL, "1"], ["x", EVIL]],
        sentences=[EVIL],
        pictures=[Picture(EVIL, PIXEL, EVIL)],
        details={EVIL: EVIL},
    ).render()


def test_nothing_from_outside_is_markup():
    read = Reader(evil_page())
    tags = [tag for tag, _ in read.elements]
    assert "script" not in tags and tags.count("img") == 1
    allowed = {"width", "alt", "src"}
    (image,) = [attributes for tag, attributes in read.elements if tag == "img"]
    assert image.keys() == allowed and image["alt"] == EVIL
    # Title, heading, lead, column, two cells, sentence, picture's heading and words, summary and detail.
    assert read.text.count(EVIL) == 11
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)


def test_nothing_refers_to_another_file():
    page = evil_page()
    read = Reader(page)
    links = [v for _, a in read.elements for k, v in a.items() if k in ("src", "href", "action", "data", "srcset")]
    assert links == [f"data:image/png;base64,{PIXEL}"]
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert not {"link", "script", "iframe", "object", "form", "base"} & {tag for tag, _ in read.elements}


def test_structure():
    page = Page("t", "l", ["a", "b"], [["1", "2"], ["3", "4"]]).render()
    tags = [tag for tag, _ in Reader(page).elements]
    assert page.startswith("<!doctype html>") and tags.count("th") == 2 and tags.count("td") == 4
    assert tags.count("tr") == 3
    # Nothing is left of what was not given.
    assert not {"ul", "img", "details", "section"} & set(tags)


@pytest.mark.parametrize(("inches", "pixels"), [(pictures.WIDE, 960), (pictures.NARROW, 466)])
def test_width_of_a_picture_on_the_page(inches, pixels):
    import matplotlib.pyplot as plt

    drawn = pictures.png(plt.figure(figsize=(inches, 1)))
    assert Picture("x", drawn).width == pytest.approx(pixels, abs=1)
    assert (
        f'<img width="{Picture("x", drawn).width}"' in Page("t", "l", [], [], pictures=[Picture("x", drawn)]).render()
    )
    width = int.from_bytes(base64.b64decode(drawn)[16:20], "big")
    assert width == pytest.approx(pixels * DENSITY, abs=2)


def test_two_narrow_pictures_stand_side_by_side():
    page = Page("t", "l", [], []).render()
    gap = 16 * float(re.search(r"column-gap:([\d.]+)rem", page)[1])
    width = 16 * (float(re.search(r"max-width:(\d+)rem", page)[1]) - 2)
    assert 2 * 96 * pictures.NARROW + gap <= width and 96 * pictures.WIDE <= width
