"""The commands and calls of docs/export.md, one after the other."""

import os
import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
QUICK = ("--device", "cpu", "--engine.report", "false", "--engine.tensorboard", "false", "--engine.threads", "1")


def test_blocks(tmp_path, monkeypatch, good, capsys, digits, table):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for k, path in enumerate(sorted(digits.rglob("*.png"))[:6]):
        (tmp_path / "pictures" / ("more" if k > 2 else ".") / f"{k}.png").write_bytes(path.read_bytes())
    assert [kind for kind, _ in BLOCKS] == ["sh", "python", "python"]
    for line in BLOCKS[0][1].splitlines():
        command = shlex.split(line)[1:]
        good(*command, *(QUICK if command[0] in ("train", "distill") else ()))
    said = table(tmp_path / "predictions.csv")
    assert [row["path"] for row in said] == [f"pictures/{'more/' if k > 2 else ''}{k}.png" for k in range(6)]
    exec(compile(BLOCKS[1][1], PAGE.name, "exec"), {})
    assert f"pictures/0.png (('{said[0]['label']:.0f}'," in capsys.readouterr().out
    exec(compile(BLOCKS[2][1], PAGE.name, "exec"), {})
    files = {p.name for out in ("onnx", "hub") for p in (tmp_path / "exported" / out).iterdir()}
    assert files <= {*re.findall(r"`([\w.]+)`", TEXT)}


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert all(os.path.exists(PAGE.parent / target) for target in targets), targets
