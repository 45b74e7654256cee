"""Contact sheets to be looked at, and what their tests do with a page."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dlkd.audit.sheet import Sheet

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
    """Eight images of three classes; the last two lack a thumbnail. Of 10 and 13 the teacher says another class than is
    suggested."""
    return dataclasses.replace(
        Sheet(
            title="Audit of eight pictures",
            lead="Low scores first.",
            warning="",
            key="0123abcd",
            class_names=("cat", "dog", "owl"),
            ids=np.arange(10, 18),
            given=np.array([0, 0, 0, 1, 1, 2, 2, -1]),
            suggested=np.array([1, 1, 0, 1, 0, 2, 1, 2]),
            teacher=np.array([2, 1, 0, 0, 0, 2, 1, 2]),
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


def hostile():
    """Names that would like to be more than text, everywhere a name can stand."""
    return sheet(
        title=HOSTILE[1],
        lead=HOSTILE[0],
        warning=HOSTILE[2],
        key=HOSTILE[3],
        class_names=HOSTILE,
        given=np.array([0, 1, 2, 3, 4, 0, 0, 0]),
        suggested=np.array([1, 2, 3, 4, 0, 0, 0, 0]),
        teacher=np.array([2, 3, 4, 0, 1, 0, 0, 0]),
        actions=HOSTILE[:3],
        paths=[*HOSTILE, "__proto__", "javascript:window.hacked=3", "//example.org/x.png"],
    )


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
