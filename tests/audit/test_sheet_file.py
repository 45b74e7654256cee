"""The file of a contact sheet: whatever stands in it is text, and nothing in it leads elsewhere."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sheets import HOSTILE, NAN, SEEN, cards, exported, hostile, picture, press, sheet

from dlkd.audit.sheet import LARGEST_ID


def test_names_are_text_and_nothing_of_them_runs(page_of):
    page = page_of(hostile(), expected="ERR_FILE_NOT_FOUND")
    page.get_by_label("Sort by").select_option("id")
    assert page.title() == HOSTILE[1] and page.locator("h1").text_content() == HOSTILE[1]
    assert page.locator("header p").first.text_content() == f"⚠ {HOSTILE[2]}"
    assert [card.locator(".given").text_content() for card in cards(page)[:5]] == SEEN
    press(page, "Enter")
    for name in SEEN:
        page.wait_for_timeout(50)  # for the file that is not there
        assert page.locator("#facts dd").last.text_content() == name
        assert page.locator("#facts dd").first.text_content() == name
        press(page, "ArrowRight")
    press(page, "End")
    page.wait_for_timeout(50)
    press(page, "Escape Home w w w w w")
    assert [d["label"] for d in exported(page)["decisions"]] == [*HOSTILE[1:], HOSTILE[0]]
    page.reload()
    assert exported(page)["audit"] == HOSTILE[3] and len(exported(page)["decisions"]) == 5
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_the_page_itself_forbids_what_comes_from_elsewhere(page_of):
    page = page_of(sheet(), expected="Content Security Policy")
    answer = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
        fetch("http://127.0.0.1:9/").catch(() => setTimeout(done, 1000, "asked"));
    })""")
    assert answer == "connect-src"


class Reader(HTMLParser):
    """Elements with their attributes, and the text of each script."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.inside = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, text):
        if self.inside:
            self.scripts[-1] += text


def test_nothing_refers_to_another_file():
    read = Reader(hostile().render())
    links = [v for _, a in read.elements for k, v in a.items() if k in ("src", "href", "action", "data", "srcset")]
    assert links == []
    tags = [tag for tag, _ in read.elements]
    assert tags.count("script") == 3 and not {"link", "base", "iframe", "object", "img"} & set(tags)
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)
    page = sheet(title="t").render()
    assert not re.search(r"https?:|url\(|@import|import\(|innerHTML|\beval\b", page)
    (policy,) = [a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")


def test_data_come_back_and_nothing_ends_their_script():
    content = hostile()
    data, thumbnails, _ = Reader(content.render()).scripts
    assert not set("<>&\u2028") & set(data) and data.isascii()
    columns = json.loads(data)
    assert columns["classes"] == HOSTILE and columns["paths"][:5] == HOSTILE and columns["key"] == HOSTILE[3]
    assert {int(row): base64.b64decode(text) for row, text in json.loads(thumbnails).items()} == content.thumbnails


def test_numbers_are_short_and_what_is_not_finite_is_missing():
    values = np.array([1 / 3, 1e-9 / 3, 12345.678, NAN, np.inf, -np.inf, 0, 1], np.float32)
    data = json.loads(Reader(sheet(numbers={"b": values, "a": values}).render()).scripts[0])
    short = [0.33333, 3.3333e-10, 12346.0, None, None, None, 0.0, 1.0]
    assert data["numbers"] == [["b", short], ["a", short]]


def test_a_title_with_bytes_that_are_no_text_can_be_written():
    assert r"<h1>caf\udce9</h1>" in sheet(title="caf\udce9").render().encode().decode()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"given": np.zeros(7, int)}, "expected given to have 8 values like ids, but got 7"),
        ({"numbers": {"score": np.zeros(9)}}, "expected score to have 8 values like ids, but got 9"),
        ({"paths": ["a"]}, "expected paths to have 8 values like ids, but got 1"),
        ({"teacher": np.full(8, 3)}, "expected teacher to be from -1 to 2, but got 3"),
        ({"suggested": np.full(8, 3)}, "expected suggested to be from -1 to 2, but got 3"),
        ({"probe": np.full(8, -2)}, "expected probe to be from -1 to 2, but got -2"),
        ({"action": np.full(8, -1)}, "expected action to be from 0 to 2, but got -1"),
        ({"ids": np.zeros(8, int)}, "expected ids to be different"),
        ({"ids": np.arange(8) + LARGEST_ID}, "expected ids to be at most"),
        ({"thumbnails": {8: picture("red")}}, "expected thumbnails of rows 0 to 7, but got row 8"),
        ({"thumbnails": {0: b"GIF89a"}}, "expected thumbnail 0 to be JPEG, PNG or WebP, but it begins b'GIF8'"),
    ],
)
def test_columns_that_do_not_fit(changes, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        sheet(**changes)
