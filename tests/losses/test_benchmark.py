"""The textbook versions that ours are timed against agree with ours, and the page shows the file."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("losses")


def test_textbook_versions_have_our_values_and_gradients(benchmark):
    batch = benchmark.make_batch(16, 20)
    pairs = benchmark.pairs(batch)
    for name, (ours, textbook) in pairs.items():
        benchmark.agree(name, {"ours": ours, "textbook": textbook}, batch)
    with pytest.raises(AssertionError, match="kd: textbook computes something else"):
        benchmark.agree("kd", {"ours": pairs["kd"][0], "textbook": pairs["dkd"][1]}, batch)


def test_the_page_shows_the_file(benchmark):
    found = json.loads((ROOT / "results" / "losses.json").read_text())
    assert benchmark.table(found).strip() in (ROOT / "docs" / "losses.md").read_text()


def test_the_peak_is_what_is_held_at_a_time(benchmark):
    batch = benchmark.make_batch(32, 50)

    def two_then_one():
        a, b = batch.teacher + 1, batch.teacher + 2
        del a, b
        batch.teacher.clone()

    assert benchmark.peak(two_then_one) == 2 * batch.teacher.nbytes
