"""The commands of docs/report.md, one after the other."""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "report.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
QUICK = ("--device", "cpu", "--engine.report", "false", "--engine.tensorboard", "false", "--engine.threads", "1")


def test_blocks(tmp_path, monkeypatch, good):
    monkeypatch.chdir(tmp_path)
    assert [kind for kind, _ in BLOCKS] == ["sh"]
    for line in BLOCKS[0][1].splitlines():
        command = shlex.split(line)[1:]
        good(*command, *(QUICK if command[0] in ("train", "distill") else ()))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parts = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert parts == re.findall(r"^\| ([A-Z][\w ]+) \|", TEXT, re.MULTILINE)
    assert "compared with baseline" in page


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert targets and all((PAGE.parent / target).exists() for target in targets), targets
