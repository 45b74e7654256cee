"""The commands of docs/store.md, one after the other; what it says of methods against the code."""

import json
import re
import shlex
from pathlib import Path

import pytest

from dlkd.data.pixels import HEAD
from dlkd.data.sources import huggingface, objects
from dlkd.methods import METHODS
from dlkd.store.build import ENTRIES

PAGE = Path(__file__).parents[2] / "docs" / "store.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_blocks(tmp_path, monkeypatch, good):
    monkeypatch.chdir(tmp_path)
    ((kind, block),) = BLOCKS
    assert kind == "sh"
    for line in block.splitlines():
        good(*shlex.split(line)[1:])
    for run in ("dlkd", "kd"):
        assert json.loads((tmp_path / "runs" / run / "results.json").read_text())["epochs"] == 3
    made = {re.sub(r"\.[0-9a-f]{16}", "", p.name) for p in (tmp_path / "runs" / "store").glob("view-*")}
    assert made == {f"view-{k:05d}-0000.safetensors" for k in range(3)}


def test_methods_of_a_top_k_store():
    (row,) = re.findall(r"^\| `--storage.top_k 20` \| (.*) \|$", TEXT, re.MULTILINE)
    (named,) = re.findall(r"equally\. (.*) make do", row)
    assert {n for n, m in METHODS.items() if m.takes_top_k and m.teacher} == set(re.split(r", | and ", named))


def test_what_the_hash_of_the_data_covers():
    rows = dict(
        re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", TEXT.partition("### What it does not notice")[2], re.MULTILINE)
    )
    head = f"first {HEAD // 1024} KiB"
    assert HEAD % 1024 == 0 and head in rows["files: folders, tables, `.tar` shards"]
    assert (
        head in rows["Hugging Face data sets"]
        and f"at most {huggingface.DIGESTED:,} " in rows["Hugging Face data sets"]
    )
    assert f"at most {objects.DIGESTED}," in rows["a `Dataset` object"]
    assert f"The\n{ENTRIES} entries" in TEXT
    for stale, percent in ((1 / 100, 92), (1 / 50_000, 0.5)):
        assert f"({percent} %)" in TEXT and 100 * (1 - (1 - stale) ** ENTRIES) == pytest.approx(percent, rel=0.05)


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert all((PAGE.parent / target).exists() for target in targets), targets
