"""The contact sheet as a user meets it, in a real browser: look, filter, sort, mark, export."""

import base64
import dataclasses
import io
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from waits import until

from dlkd.audit.sheet import LARGEST_ID, Sheet

NAN = float("nan")
HOSTILE = [
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=2>",
    """a "quoted" 'name' & &lt;b&gt; {{ 7*7 }}""",
    "line\u2028separator <!-- <script>",
    "caf\udce9",
]
SEEN = [*HOSTILE[:-1], r"caf\xE9"]


def picture(colour, size=32, kind="PNG"):
    """The bytes of a small picture."""
    image = Image.new("RGB", (size, size), colour)
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill="white")
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def sheet(**changes):
    """Eight images of three classes; the last two lack a thumbnail."""
    return dataclasses.replace(
        Sheet(
            title="Audit of eight pictures",
            lead="Low scores first.",
            warning="",
            key="0123abcd",
            class_names=("cat", "dog", "owl"),
            ids=np.arange(10, 18),
            given=np.array([0, 0, 0, 1, 1, 2, 2, -1]),
            teacher=np.array([1, 1, 0, 1, 0, 2, 1, 2]),
            probe=np.array([1, 0, 0, 1, 0, 2, 1, -1]),
            numbers={
                "score": np.array([0.05, 0.2, 0.9, 0.8, 0.1, NAN, 0.3, 0.5], np.float32),
                "self_confidence": np.linspace(0, 1, 8),
                "margin": np.linspace(1, 0, 8),
                "distance": np.array([0.4, 0.9, 0.1, NAN, 0.6, 0.2, 0.3, 0.7]),
            },
            action=np.array([2, 2, 0, 0, 1, 0, 1, 0]),
            actions=("keep", "look", "relabel"),
            paths=[f"images/{k}.png" for k in range(8)],
            thumbnails={k: picture((30 * k, 90, 200 - 20 * k), kind=("PNG", "JPEG", "WebP")[k % 3]) for k in range(6)},
        ),
        **changes,
    )


@pytest.fixture
def page_of(tmp_path, visit):
    """Write a sheet and open it; keywords of the browser's profile go with it."""

    def opened(content, **options):
        file = tmp_path / "sheet.html"
        file.write_text(content.render(), encoding="utf-8")
        return visit(file, **options)

    return opened


def cards(page):
    """The cards in their order on the sheet."""
    found = page.locator(".card").all()
    return sorted(found, key=lambda card: int(card.get_attribute("aria-posinset")))


def shown(page):
    """The ids on the sheet."""
    return [int(card.locator(".id").inner_text().lstrip("#")) for card in cards(page)]


def selected(page):
    """The id of the selected card."""
    card = page.locator(".card[aria-selected=true]")
    assert page.locator("#grid").get_attribute("aria-activedescendant") == card.get_attribute("id")
    return int(card.locator(".id").inner_text().lstrip("#"))


def facts(page):
    """What the large view says."""
    names, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def press(page, keys):
    for key in keys.split():
        page.keyboard.press(key)


def exported(page):
    """The file that the page hands out."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Export decisions").click()
    assert download.value.suggested_filename == "decisions.json"
    return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))


def give(page, content):
    """Hand a file of decisions to the page; what it answers."""
    text = content if isinstance(content, str) else json.dumps(content)
    page.evaluate("document.getElementById('message').textContent = ''")
    page.locator("#file").set_input_files({"name": "d.json", "mimeType": "application/json", "buffer": text.encode()})
    message = page.locator("#message:not(:empty)")
    message.wait_for()
    return message.inner_text()


def test_most_suspicious_first_and_what_is_missing_last(page_of):
    page = page_of(sheet())
    assert shown(page) == [10, 14, 11, 16, 17, 13, 12, 15]
    assert selected(page) == 10
    page.get_by_label("Order").select_option("highest first")
    assert shown(page) == [12, 13, 17, 16, 11, 14, 10, 15]
    page.get_by_label("Sort by").select_option("distance")
    assert shown(page) == [11, 17, 14, 10, 16, 15, 12, 13]
    page.get_by_label("Sort by").select_option("id")
    assert shown(page) == [17, 16, 15, 14, 13, 12, 11, 10]
    assert page.get_by_label("Sort by").locator("option").all_inner_texts() == [
        *("score", "self_confidence", "margin", "distance", "id")
    ]


def test_what_a_card_says(page_of):
    page = page_of(sheet())
    first, missing = cards(page)[0], cards(page)[-1]
    assert first.locator(".name").all_inner_texts() == ["cat", "→ dog"]
    assert first.locator(".numbers .line").all_text_contents() == ["score 0.05", "distance 0.4"]
    assert first.locator(".action").inner_text() == "relabel"
    assert missing.locator(".numbers .line").all_text_contents() == ["score –", "distance 0.2"]
    assert first.get_attribute("aria-label") == (
        "image 10, given cat, teacher dog, score 0.05, distance 0.4, relabel, unmarked"
    )
    no_class = page.locator(".card", has_text="#17")
    assert no_class.locator(".name").all_inner_texts() == ["none", "→ owl"]
    assert no_class.locator(".picture").inner_text() == "no picture" and no_class.locator("img").count() == 0
    # PNG, JPEG and WebP are all decoded.
    until(page, "[...document.images].filter((image) => image.naturalWidth === 32).length === 6")
    page.get_by_label("Sort by").select_option("margin")
    assert cards(page)[0].locator(".numbers .line").all_text_contents() == ["margin 0", "distance 0.7"]


def test_filter_by_class_pair(page_of):
    page = page_of(sheet())
    page.get_by_label("Given label").select_option("cat (3)")
    assert shown(page) == [10, 11, 12]
    page.get_by_label("Teacher's label").select_option("dog (4)")
    assert shown(page) == [10, 11]
    assert page.locator("#shown").inner_text() == "2 of 8 shown"
    page.get_by_role("button", name="Show all").click()
    assert len(shown(page)) == 8
    # The same by the button of a pair, which lets go when it is pressed again; image 17 has no given label.
    assert page.locator("#pairs button").all_inner_texts() == ["cat → dog\n2", "dog → cat\n1", "owl → dog\n1"]
    button = page.get_by_role("button", name="cat → dog")
    button.click()
    assert shown(page) == [10, 11] and button.get_attribute("aria-pressed") == "true"
    button.click()
    assert len(shown(page)) == 8 and button.get_attribute("aria-pressed") == "false"


def test_filter_by_score_and_difficulty(page_of):
    page = page_of(sheet())
    page.get_by_label("lowest score").fill("0.1")
    page.get_by_label("highest score").fill("0.5")
    assert shown(page) == [14, 11, 16, 17]
    page.get_by_label("lowest distance").fill("0.65")
    assert shown(page) == [11, 17]
    page.get_by_label("highest distance").fill("0.7")
    assert shown(page) == [17]
    page.get_by_label("highest distance").fill("0.66")
    assert shown(page) == [] and page.get_by_text("No image fits these filters.").is_visible()
    press(page, "Escape ArrowRight w Enter z")
    assert not page.locator("#large").is_visible() and page.locator("#progress").inner_text() == "0 marked"


def test_filter_by_action_mark_path_and_id(page_of):
    page = page_of(sheet())
    page.get_by_label("Action").select_option("look (2)")
    assert shown(page) == [14, 16]
    page.get_by_label("Action").select_option("any")
    page.get_by_label("contains").fill("IMAGES/3")
    assert shown(page) == [13]
    page.get_by_label("contains").fill("17")
    assert shown(page) == [17]
    page.get_by_label("contains").fill("")
    press(page, "Escape w")
    page.locator("#mark").select_option("wrong")
    assert shown(page) == [10]
    page.locator("#mark").select_option("unmarked")
    assert shown(page) == [14, 11, 16, 17, 13, 12, 15]


def test_a_mark_that_no_longer_fits_the_filter_makes_room_for_the_next(page_of):
    page = page_of(sheet(paths=None))
    page.locator("#mark").select_option("unmarked")
    press(page, "ArrowRight r")
    assert shown(page) == [10, 11, 16, 17, 13, 12, 15] and selected(page) == 11
    press(page, "End u")
    assert shown(page) == [10, 11, 16, 17, 13, 12] and selected(page) == 12
    press(page, "z")
    assert selected(page) == 15
    press(page, "Enter u u u u u u u")
    assert shown(page) == [] and not page.locator("#large").is_visible()


def test_keys_move_the_selection(page_of):
    page = page_of(sheet(), viewport={"width": 900, "height": 700})  # three cards in a line
    tops = [card.bounding_box()["y"] for card in cards(page)]
    assert tops.count(tops[0]) == 3
    press(page, "ArrowDown")
    assert selected(page) == 16
    press(page, "ArrowRight ArrowRight ArrowLeft")
    assert selected(page) == 17
    press(page, "ArrowUp ArrowUp ArrowUp")
    assert selected(page) == 10
    press(page, "End")
    assert selected(page) == 15
    box = page.locator(".card[aria-selected=true]").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 700
    press(page, "Home")
    assert selected(page) == 10
    box, bar = (page.locator(name).bounding_box() for name in (".card[aria-selected=true]", ".bar"))
    assert box["y"] >= bar["y"] + bar["height"]


def test_the_large_view_shows_the_file_or_else_the_thumbnail(page_of, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.png").write_bytes(picture("navy", 200))
    page = page_of(sheet(), expected="ERR_FILE_NOT_FOUND")
    page.locator(".card", has_text="#10").click()
    assert page.locator("#pair").inner_text() == "cat → dog"
    until(page, "document.querySelector('#picture img').naturalWidth === 200")
    assert facts(page) == {
        **{"given": "cat", "teacher": "dog", "probe": "dog", "action": "relabel", "score": "0.05", "distance": "0.4"},
        **{"self_confidence": "0", "margin": "1", "id": "10", "path": "images/0.png"},
    }
    assert page.locator("#large-title").inner_text() == "1 of 8"
    with page.expect_event("requestfailed"):
        press(page, "ArrowRight")
    until(page, "document.querySelector('#picture img').naturalWidth === 32")
    assert facts(page)["id"] == "14" and selected(page) == 14
    press(page, "ArrowLeft Escape")
    assert not page.locator("#large").is_visible() and selected(page) == 10
    press(page, "ArrowRight Enter")
    assert page.locator("#large").is_visible() and facts(page)["id"] == "14"
    page.get_by_role("button", name="Next").click()
    assert facts(page)["id"] == "11"
    with page.expect_event("requestfailed"):
        press(page, "End ArrowLeft ArrowLeft ArrowLeft")
    assert facts(page)["id"] == "17" and facts(page)["probe"] == "none"
    assert page.locator("#picture").inner_text() == "no picture"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_of_any_name_is_found(page_of, tmp_path):
    names = ["#1 50%25?a=b.png", "\"q\" 'r' <b> &lt;.png", "søren ü 好.png", "caf\udce9 \udcff\udc80.png", "a:b\\c.png"]
    for k, name in enumerate(names):
        (tmp_path / f"x {k}").mkdir()
        (tmp_path / f"x {k}" / name).write_bytes(picture("teal", 100 + k))
    paths = [f"x {k}/{name}" for k, name in enumerate(names)] + [""] * 3
    page = page_of(sheet(paths=paths))
    page.get_by_label("Sort by").select_option("id")
    page.locator(".card").first.click()
    for k in range(len(names)):
        until(page, f"document.querySelector('#picture img').naturalWidth === {100 + k}")
        press(page, "ArrowRight")
    assert "path" not in facts(page)


def test_marks_by_keyboard_undo_and_the_exported_file(page_of):
    page = page_of(sheet())
    press(page, "w r u R x")
    assert selected(page) == 17
    press(page, "ArrowLeft Backspace w z")  # the mark of 16 is taken away, made another, and that is undone
    assert selected(page) == 16
    assert page.locator("#message").inner_text() == "Undone: image 16."
    assert page.locator("#progress").inner_text() == "3 marked: 1 right, 1 wrong, 1 unsure"
    badges = [card.locator(".badge").inner_text() for card in cards(page)]
    assert badges == ["✗ wrong → dog", "✓ right", "? unsure", "", "", "", "", ""]
    assert exported(page) == {
        **{"format": 1, "audit": "0123abcd"},
        "decisions": [
            {"id": 10, "mark": "wrong", "label": "dog"},
            {"id": 11, "mark": "unsure"},
            {"id": 14, "mark": "right"},
        ],
    }
    undo = page.get_by_role("button", name="Undo")
    for _ in range(5):  # three marks, R and Backspace; clearing what is clear (x) counts as well
        undo.click()
    assert exported(page)["decisions"] == [{"id": 10, "mark": "wrong", "label": "dog"}]
    undo.click()
    assert undo.is_disabled() and exported(page)["decisions"] == [] and selected(page) == 10


def test_the_right_class_is_chosen_in_the_large_view(page_of):
    page = page_of(sheet(paths=None))
    press(page, "Enter")
    choice = page.get_by_label("the right one is")
    assert choice.evaluate("c => c.selectedOptions[0].text") == "dog"  # the teacher's
    assert choice.locator("option:disabled").all_inner_texts() == ["cat"]  # the given one
    choice.select_option("owl")
    page.get_by_role("button", name="Wrong").click()
    assert facts(page)["id"] == "14"
    press(page, "w w ArrowLeft")
    assert facts(page)["id"] == "11"
    assert page.get_by_role("button", name="Wrong").get_attribute("aria-pressed") == "true"
    choice.select_option("none of these")  # of one that is marked already
    press(page, "Escape")
    assert [d.get("label") for d in exported(page)["decisions"]] == ["owl", None, "cat"]
    press(page, "z")
    assert [d.get("label") for d in exported(page)["decisions"]] == ["owl", "dog", "cat"]
    assert selected(page) == 11


def test_wrong_without_a_class_where_the_teacher_repeats_the_label(page_of):
    page = page_of(sheet())
    press(page, "End w")
    assert exported(page)["decisions"] == [{"id": 15, "mark": "wrong"}]


def test_a_reload_keeps_the_marks_and_another_audit_has_its_own(page_of, tmp_path):
    page = page_of(sheet())
    press(page, "r w")
    before = exported(page)
    page.reload()
    assert page.locator("#progress").inner_text() == "2 marked: 1 right, 1 wrong, 0 unsure"
    assert exported(page) == before and page.get_by_role("button", name="Undo").is_disabled()
    # A second tab shows them, and what is marked there is marked here.
    other = page.context.new_page()
    other.goto(page.url)
    press(other, "u")
    until(page, "document.querySelector('#progress').textContent.startsWith('2 marked: 0 right')")
    assert exported(page) == exported(other)
    (tmp_path / "sheet.html").write_text(sheet(key="another").render(), encoding="utf-8")
    page.reload()
    assert page.locator("#progress").inner_text() == "0 marked"


def test_it_works_where_the_browser_keeps_nothing(page_of):
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})"
    page = page_of(sheet(), before=refuse)
    assert not page.locator("#storage").is_visible()
    press(page, "r")
    assert "does not keep your decisions" in page.locator("#storage").inner_text()
    assert exported(page)["decisions"] == [{"id": 10, "mark": "right"}]


def test_decisions_are_read_back(page_of):
    page = page_of(sheet())
    press(page, "u")
    mine = {"format": 1, "audit": "0123abcd"}
    decisions = [{"id": 11, "mark": "wrong", "label": "owl"}, {"id": 13, "mark": "right"}]
    odd = [{"id": 99, "mark": "right"}, {"id": 12, "mark": "toString"}, None]
    assert give(page, {**mine, "decisions": decisions + odd}) == "Imported 2 decisions; 3 fit no image here."
    assert exported(page)["decisions"] == [{"id": 10, "mark": "unsure"}, *decisions]
    press(page, "z")
    assert exported(page)["decisions"] == [{"id": 10, "mark": "unsure"}]
    for content, answer in [
        ({**mine, "audit": "another", "decisions": decisions}, "These decisions belong to another audit."),
        ({**mine, "format": 2, "decisions": decisions}, "This file holds no decisions of an audit."),
        ([1], "This file holds no decisions of an audit."),
        ("{", "This file holds no decisions: it is not JSON."),
    ]:
        assert give(page, content) == answer
    assert exported(page)["decisions"] == [{"id": 10, "mark": "unsure"}]


def test_keys_are_text_while_somebody_types(page_of):
    page = page_of(sheet())
    search = page.get_by_label("contains")
    search.focus()
    page.keyboard.type("rwux?z")
    assert search.input_value() == "rwux?z" and page.locator("#progress").inner_text() == "0 marked"
    assert not page.locator("#help").is_visible()
    press(page, "Backspace Control+a Backspace Enter r")  # Enter leads back to the images
    assert exported(page)["decisions"] == [{"id": 10, "mark": "right"}]
    page.get_by_role("button", name="Show all").focus()
    press(page, "Enter")  # the button's own
    assert not page.locator("#large").is_visible()
    press(page, "?")
    assert page.locator("#help").is_visible()
    press(page, "w Escape Control+r")
    assert not page.locator("#help").is_visible() and page.locator("#progress").inner_text().startswith("1 marked")


def test_after_a_choice_with_the_pointer_keys_mark_again(page_of):
    page = page_of(sheet(paths=None))
    press(page, "Enter")
    choice = page.get_by_label("the right one is")
    choice.focus()
    press(page, "ArrowDown w")  # of one who uses the list by its keys: nothing is marked
    assert page.locator("#progress").inner_text() == "0 marked" and choice.evaluate("c => c === document.activeElement")
    choice.dispatch_event("pointerdown")
    choice.select_option("owl")
    press(page, "w")
    press(page, "Escape")
    assert exported(page)["decisions"] == [{"id": 10, "mark": "wrong", "label": "owl"}]


def hostile():
    """Names that would like to be more than text, everywhere a name can stand."""
    return sheet(
        title=HOSTILE[1],
        lead=HOSTILE[0],
        warning=HOSTILE[2],
        key=HOSTILE[3],
        class_names=HOSTILE,
        given=np.array([0, 1, 2, 3, 4, 0, 0, 0]),
        teacher=np.array([1, 2, 3, 4, 0, 0, 0, 0]),
        actions=HOSTILE[:3],
        paths=[*HOSTILE, "__proto__", "javascript:window.hacked=3", "//example.org/x.png"],
    )


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


def many(count=50_000):
    draw = np.random.default_rng(0)
    given, teacher = draw.integers(0, 100, (2, count))
    thumbnail = picture("red", 8)
    return sheet(
        class_names=[f"class {k}" for k in range(100)],
        ids=np.arange(count),
        given=given,
        teacher=teacher,
        probe=teacher,
        numbers={"score": draw.permutation(count) / count, "distance": draw.random(count)},
        action=draw.integers(0, 3, count),
        paths=[f"images/{k:05d}.png" for k in range(count)],
        thumbnails=dict.fromkeys(range(count), thumbnail),
    )


def test_fifty_thousand_images_stay_usable(page_of):
    content = many()
    page = page_of(content)
    rank = np.argsort(content.numbers["score"])
    assert page.locator("#shown").inner_text() == "50,000 of 50,000 shown"
    assert shown(page)[:3] == rank[:3].tolist()

    def small():
        return 0 < page.locator(".card").count() < 100 and page.locator("*").count() < 5000

    assert small()
    press(page, "End")
    assert selected(page) == rank[-1] and small()
    assert page.locator(".card[aria-selected=true]").bounding_box()["y"] < 720
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    near = "Math.abs(card.getBoundingClientRect().top) < innerHeight"
    until(page, f"[...document.querySelectorAll('.card')].some((card) => {near})")
    middle = cards(page)[0]
    assert 20_000 < int(middle.get_attribute("aria-posinset")) < 30_000 and small()
    press(page, "Home w")
    pair = (content.given == 3) & (content.teacher == 5)
    page.locator("#given").select_option("3")
    page.locator("#teacher").select_option("5")
    assert page.locator("#shown").inner_text() == f"{pair.sum()} of 50,000 shown"
    page.get_by_label("Sort by").select_option("distance")
    best = np.flatnonzero(pair)[np.argsort(content.numbers["distance"][pair])]
    assert shown(page)[:5] == best[:5].tolist() and small()
    took = page.evaluate("""() => {
        const start = performance.now();
        document.getElementById("reset").click();
        for (const order of ["-1", "1"]) {
            document.getElementById("direction").value = order;
            document.getElementById("direction").dispatchEvent(new Event("change", {bubbles: true}));
        }
        return performance.now() - start;
    }""")
    print(f"three times filtered, twice sorted: {took:.0f} ms")
    assert page.locator("#shown").inner_text() == "50,000 of 50,000 shown"


def test_on_a_phone_nothing_is_wider_than_the_page(page_of):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    page = page_of(hostile(), expected="ERR_FILE_NOT_FOUND", **phone)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 360
    page.get_by_text("Filters", exact=True).tap()
    assert page.get_by_label("Given label").is_visible() and page.evaluate(wide) == 360
    page.get_by_text("Filters", exact=True).tap()
    assert cards(page)[0].bounding_box()["y"] == cards(page)[1].bounding_box()["y"]  # two in a line
    page.locator(".card").nth(1).tap()
    box = page.locator("#large").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert page.locator("#large").evaluate("d => d.scrollWidth - d.clientWidth") == 0
    page.get_by_role("button", name="Unsure").tap()
    assert page.locator("#progress").inner_text().startswith("1 marked")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(page_of, scheme):
    names = ("maple", "oak", "palm", "pine", "willow", "otter", "seal", "whale")
    draw = np.random.default_rng(1)
    count = 60
    content = sheet(
        warning="The teacher has seen these labels: its scores are no evidence." if scheme == "dark" else "",
        class_names=names,
        ids=np.arange(count),
        given=draw.integers(0, 8, count),
        teacher=draw.integers(0, 8, count),
        probe=draw.integers(0, 8, count),
        numbers={name: draw.random(count) for name in ("score", "self_confidence", "margin", "distance")},
        action=draw.integers(0, 3, count),
        paths=None,
        thumbnails={k: picture(tuple(draw.integers(0, 255, 3).tolist())) for k in range(count)},
    )
    page = page_of(content, color_scheme=scheme)
    press(page, "w r u")
    luminance = page.evaluate("""["backgroundColor", "color"].map((name) => getComputedStyle(document.body)[name]
        .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)""")
    darker, lighter = luminance if scheme == "dark" else luminance[::-1]
    assert darker < 50 and lighter > 200
    folder = os.environ.get("DLKD_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/sheet{'-dark' if scheme == 'dark' else ''}.png")


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
