"""Every block of the README is executed, as it stands."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL = [line.split(" #")[0] for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, where somebody has photos of two kinds of things that are not quite easy to tell."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for channel, name in ((0, "tomato"), (2, "plum")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for k in range(80):
            colour = random.normal(90, 40, 3)
            colour[channel] += 60
            image = (colour + random.normal(0, 30, (40, 48, 3))).clip(0, 255)
            Image.fromarray(image.astype(np.uint8)).save(folder / f"{k}.png")
    return tmp_path


def test_there_are_no_other_blocks():
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert {shlex.split(line)[0] for line in SHELL} <= {"make", "dlkd"}


def test_no_gap_is_left_to_be_filled():
    assert re.findall(r"^[A-Z_]+$", README, re.MULTILINE) == []


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_block(block, here):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_shell_commands(here, good, dlkd_started):
    commands = [shlex.split(line)[1:] for line in SHELL if line.startswith("dlkd ")]
    assert [c[0] for c in commands] == [
        *("train", "distill", "report", "evaluate", "export", "predict", "serve", "audit", "clean", "compare"),
    ]
    for command in commands:
        if command[0] == "serve":
            assert command == ["serve", "runs/student"]
            serves(dlkd_started([*command, "--port", 0], cwd=here))
        else:
            good(*command)
    outs = {c[0]: Path(c[c.index("--out") + 1]) for c in commands if "--out" in c}
    assert all((outs[name] / "report.html").is_file() for name in ("train", "distill", "compare"))
    assert all((outs[name] / "student.safetensors").is_file() for name in ("train", "distill"))
    assert (outs["export"] / "model.onnx").is_file()
    assert len(outs["predict"].read_text().splitlines()) == 1 + 160
    assert (outs["audit"] / "audit.html").is_file() and outs["clean"].read_text().startswith(
        "id,path,given_label,label"
    )
    rows = json.loads((outs["compare"] / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["ce", "kd", "dlkd"] and not any(row["not_run"] for row in rows)


def serves(process):
    """It says where it is to be found, and ends when it is told to."""
    said = next(line for line in process.stdout if line.startswith("serving "))
    process.terminate()
    assert "http://127.0.0.1:" in said and process.communicate(timeout=60)[1] == "" and process.returncode == 0


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    commands = [shlex.split(line)[1] for line in SHELL if line.startswith("make ")]
    assert commands and all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in commands)


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets and all(os.path.exists(ROOT / target) for target in targets), targets
