"""Pages show what the files in results/ say, and the files are whole."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPARISONS = [p for p in (ROOT / "results").glob("*.json") if json.loads(p.read_text()).get("command") == "compare"]


@pytest.fixture(scope="module")
def evidence():
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "benchmarks" / "evidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_show_the_files(evidence):
    for page in evidence.PAGES:
        assert evidence.renewed(page.read_text()) == page.read_text(), f"run python benchmarks/evidence.py for {page}"


def test_every_table_of_a_comparison_has_its_file_and_command():
    page = (ROOT / "docs" / "evidence.md").read_text()
    named = set(re.findall(r"<!-- (?:means|part) (\S+)", page))
    assert named and named <= {p.name for p in COMPARISONS}
    for name in named:
        assert f"studies/{Path(name).stem}.yaml" in page and (ROOT / "studies" / f"{Path(name).stem}.yaml").is_file()


@pytest.mark.parametrize("file", COMPARISONS, ids=lambda p: p.stem)
def test_a_comparison_is_whole(file):
    found = json.loads(file.read_text())
    assert {"versions", "machine", "threads", "seeds", "baseline", "ours", "rows", "compared"} <= found.keys()
    assert "/tmp" not in file.read_text() and "/work" not in file.read_text()
    for row in found["rows"]:
        assert sorted([*map(int, row["seeds"]), *row["not_run"]]) == sorted(found["seeds"])
        for name, of in row["figures"].items():
            values = [figures[name] for figures in row["seeds"].values() if name in figures]
            assert of["n"] == len(values) and of["mean"] == pytest.approx(sum(values) / len(values))
            assert "test" not in row["figures"] or (ROOT / "results" / "ledger.jsonl").is_file()
