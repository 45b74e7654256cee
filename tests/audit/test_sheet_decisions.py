"""The contact sheet in a real browser: mark, undo, export, and read back."""

from sheets import cards, exported, facts, give, press, selected, sheet
from waits import until


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
    assert choice.evaluate("c => c.selectedOptions[0].text") == "dog"  # as suggested; the teacher says owl
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


def test_wrong_without_a_class_where_the_label_itself_is_suggested(page_of):
    page = page_of(sheet())
    press(page, "End w")
    assert exported(page)["decisions"] == [{"id": 15, "mark": "wrong"}]
    press(page, "ArrowLeft ArrowLeft w")  # of this the teacher says another class, which is not likelier
    assert exported(page)["decisions"] == [{"id": 13, "mark": "wrong"}, {"id": 15, "mark": "wrong"}]


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
