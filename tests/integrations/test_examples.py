"""Every example is executed, as a user would start it."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "plain_loop": (),
    "timm_train": ("timm.task",),
    "lightning_train": ("lightning",),
    "hf_trainer": ("transformers", "accelerate"),
}


def student_accuracy(printed):
    (found,) = re.findall(r"^student: ([\d.]+) % of the test images right$", printed, re.MULTILINE)
    return float(found)


@pytest.fixture
def example(monkeypatch, capsys):
    """Run an example here, where torch is imported already; returns what it printed."""

    def run(name, *arguments):
        for module in NEEDS[name]:
            pytest.importorskip(module, reason=f"{module} is not installed")
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_there_are_no_others():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {*NEEDS, "digits"}


@pytest.mark.parametrize("name", NEEDS)
def test_example(name, example):
    # One image in ten is right by chance.
    assert student_accuracy(example(name, "--epochs", "2")) > 50


def test_another_method(example):
    assert student_accuracy(example("plain_loop", "--epochs", "1", "--method", "ctkd")) > 10


def test_as_a_process(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "plain_loop.py", "--epochs", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert student_accuracy(done.stdout) > 0 and list(tmp_path.iterdir()) == []
