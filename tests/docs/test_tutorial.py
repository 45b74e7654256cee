"""The tutorial, from its first block to its last, on two photographs: teacher, student, report, file, predictions."""

import csv
import json
from pathlib import Path

from doc_blocks import DOCS, blocks

PAGE = DOCS / "tutorial.md"
SAID = ("--device", "cpu", "--data.workers", "0", "--engine.threads", "1")


def test_the_tutorial(tmp_path, monkeypatch, good, capsys):
    monkeypatch.chdir(tmp_path)
    made = blocks(PAGE)
    for block in made:
        if block.kind == "python" and "load_sample_images" in block.text:
            exec(compile(block.text, PAGE.name, "exec"), {})
        for words in block.commands if block.kind == "sh" else []:
            if words[0] == "dlkd":
                good(*words[1:], *(SAID if words[1] in ("train", "distill") else ()))
    assert len(list(Path("photos").rglob("*.png"))) == 200
    results = json.loads(Path("runs/student/results.json").read_text())
    # Patches of a temple and of a flower are told apart by anybody.
    assert results["test"]["accuracy"] > 80 and "trained alone" in results["baseline"]["verdict"]
    assert Path("runs/student-baseline/report.html").is_file()
    assert "student-baseline" in Path("report.html").read_text()
    export = json.loads(Path("exported/export.json").read_text())
    assert export["check"]["top1_agreement"] == 100
    assert {(row["model"], row["engine"]) for row in export["benchmark"]["rows"]} >= {
        ("student", "PyTorch"),
        ("student", "ONNX Runtime"),
        ("student, int8", "ONNX Runtime"),
        ("teacher", "PyTorch"),
    }
    with open("predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200 and {row["label"] for row in rows} <= {"china", "flower"}
    right = sum(row["label"] == Path(row["path"]).parent.name for row in rows)
    assert right > 160


def test_what_is_not_run_says_so():
    others = [block.text for block in blocks(PAGE) if block.kind == "sh" and "dlkd" not in block.text.split()[0]]
    assert [text.split()[:2] for text in others] == [["python", "benchmarks/ship.py"]]
