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
        stem = Path(name).stem
        if not (ROOT / "studies" / f"{stem}.yaml").is_file():
            stem = stem.rpartition("-")[0]  # a study of several conditions, a file for each
        assert f"studies/{stem}." in page and (ROOT / "studies" / f"{stem}.yaml").is_file()


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


def test_the_audit_is_whole():
    found = json.loads((ROOT / "results" / "audit.json").read_text())
    seeds, rows = found["settings"]["seeds"], found["rows"]
    noises = list(dict.fromkeys(row["noise"] for row in rows))
    assert len(noises) == 4 and sorted((r["noise"], r["seed"]) for r in rows) == sorted(
        (noise, seed) for noise in noises for seed in seeds
    )
    assert {"versions", "machine", "threads"} <= found.keys() and "/" not in json.dumps(found["settings"])
    for entry in found["summary"]:
        for figure in ("auroc", "average_precision", "precision_at_k"):
            values = [r["scores"][entry["score"]][figure] for r in rows if r["noise"] == entry["noise"]]
            assert len(values) == len(seeds) and all(0 <= value <= 1 for value in values)
            assert entry[figure]["mean"] == pytest.approx(sum(values) / len(values))
    # Both are of the same probabilities, ours and cleanlab's.
    for row in rows:
        ours, theirs = (row["scores"][name] for name in ("self-confidence", "cleanlab self_confidence"))
        assert ours["auroc"] == pytest.approx(theirs["auroc"], abs=1e-6)
