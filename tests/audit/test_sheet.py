"""The contact sheet as a user meets it, in a real browser: look, sort and filter."""

import os
import sys

import numpy as np
import pytest
from sheets import cards, facts, hostile, picture, press, selected, sheet, shown
from waits import until


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
        "image 10, given cat, suggested dog, score 0.05, distance 0.4, relabel, unmarked"
    )
    # A label that is kept is shown as it is, whatever the teacher says of the image.
    kept = page.locator(".card", has_text="#13")
    assert kept.locator(".name").all_inner_texts() == ["dog", "→ dog"]
    assert "differs" in first.get_attribute("class") and "differs" not in kept.get_attribute("class")
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
    page.get_by_label("Suggested label").select_option("dog (4)")
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
        **{"given": "cat", "suggested": "dog", "teacher": "owl", "probe": "dog", "action": "relabel"},
        **{"score": "0.05", "distance": "0.4", "self_confidence": "0", "margin": "1"},
        **{"id": "10", "path": "images/0.png"},
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


def many(count=50_000):
    draw = np.random.default_rng(0)
    given, suggested, teacher = draw.integers(0, 100, (3, count))
    thumbnail = picture("red", 8)
    return sheet(
        class_names=[f"class {k}" for k in range(100)],
        ids=np.arange(count),
        given=given,
        suggested=suggested,
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
    pair = (content.given == 3) & (content.suggested == 5)
    page.locator("#given").select_option("3")
    page.locator("#suggested").select_option("5")
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
        suggested=draw.integers(0, 8, count),
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
