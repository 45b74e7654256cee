"""The commands and the call of docs/evaluation.md, one after the other; its tables against the code."""

import json
import os
import re
import shlex
from pathlib import Path

from dlkd.evaluate.corruptions import CORRUPTIONS
from dlkd.evaluate.figures import NAMES

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
QUICK = ("--device", "cpu", "--engine.report", "false", "--engine.tensorboard", "false")


def test_blocks(tmp_path, monkeypatch, good, capsys):
    monkeypatch.chdir(tmp_path)
    assert [kind for kind, _ in BLOCKS] == ["sh", "python"]
    commands = [shlex.split(line)[1:] for line in BLOCKS[0][1].splitlines()]
    for command in commands:
        good(*command, *(QUICK if command[0] != "evaluate" else QUICK[:2]))
    found = json.loads((tmp_path / "figures.json").read_text())
    names = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert names - CORRUPTIONS.keys() < found.keys() and NAMES.keys() < names
    assert set(found["memorisation"]["train"]) == {
        "images",
        *re.findall(r"^- `(\w+_label|neither)`", TEXT, re.MULTILINE),
    }
    spoilt = found["corruptions"]["accuracy"]
    assert spoilt.keys() == CORRUPTIONS.keys() and all(len(row) == 5 for row in spoilt.values())
    names = {}
    exec(compile(BLOCKS[1][1], PAGE.name, "exec"), names)
    assert names["found"]["corruptions"]["accuracy"]["jpeg"] == [spoilt["jpeg"][k] for k in (0, 2, 4)]
    assert names["found"]["memorisation"] == found["memorisation"] and "the student" in capsys.readouterr().out


def test_strengths_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*[\d.]+, [\d.]+, [\d.]+, [\d.]+.*) \|$", TEXT, re.MULTILINE))
    assert rows.keys() == CORRUPTIONS.keys()
    for name, row in rows.items():
        numbers = re.findall(r"\d+(?:\.\d+)?", row)
        assert tuple(float(n) for n in numbers) == tuple(float(s) for s in CORRUPTIONS[name].strengths), name


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert all(os.path.exists(PAGE.parent / target) for target in targets), targets
