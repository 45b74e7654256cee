"""docs/how-dlkd-works.md shows what its script found, and its script finds what the formulas say."""

import json
import re
import runpy
import shutil
import sys

import numpy as np
import pytest
from doc_blocks import DOCS, ROOT

SCRIPT = ROOT / "benchmarks" / "how_it_works.py"
PAGE = DOCS / "how-dlkd-works.md"
PICTURES = {"predictions.svg", "levels.svg", "targets.svg"}


def softened(p, t):
    """softmax(z/t) out of softmax(z), in float64: p^(1/t), normalised."""
    root = np.asarray(p) ** (1 / t)
    return root / root.sum()


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """What the script writes today, with one epoch, into a folder and a page of its own."""
    out = tmp_path_factory.mktemp("how")
    page = shutil.copy(PAGE, out / "page.md")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), "--out", str(out), "--page", str(page), "--epochs", "1"])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return out


def figures(folder):
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("which", ["published", "today"])
def test_figures_follow_from_each_other(which, again):
    found = figures(again if which == "today" else DOCS / "how")
    levels = [d["level"] for d in found["digits"]]
    assert levels == sorted(levels) and len(levels) == 4
    for d in found["digits"]:
        assert d["distance"] == pytest.approx(np.linalg.norm(np.subtract(d["teacher"], d["probe"])), abs=1e-6)
        assert d["temperature"] == pytest.approx(2 + 4 * d["level"], rel=1e-6)
        np.testing.assert_allclose(d["target"], softened(d["teacher"], d["temperature"]), rtol=1e-6)
        np.testing.assert_allclose(d["target_at_fixed"], softened(d["teacher"], 4), rtol=1e-6)


def test_the_page_shows_the_published_figures():
    text, found = PAGE.read_text(encoding="utf-8"), figures(DOCS / "how")
    renewed = runpy.run_path(str(SCRIPT))["renewed"]
    assert renewed(text, found) == text
    for share in found["test_accuracy"].values():
        assert f"{share:.1f} %" in text
    low, high = (found["reference"]["distance_quantiles"][q] for q in ("50 %", "90 %"))
    assert f"less than {low:.3f}, a tenth more than {high:.3f}" in text.replace("\n", " ")
    assert f"{found['settings']['epochs']}" == "5" and "five epochs" in text
    assert set(re.findall(r"\(how/(\w+\.svg)\)", text)) == PICTURES


def test_the_script_writes_pictures_and_table(again):
    assert {p.name for p in again.glob("*.svg")} == PICTURES
    for name in PICTURES:
        assert b"<svg" in (again / name).read_bytes()[:1000]
    rows = re.findall(r"^\| (\d+) \| (\d) \|", (again / "page.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(str(d["id"]), str(d["true"])) for d in figures(again)["digits"]]
