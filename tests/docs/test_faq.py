"""The answers of docs/faq.md, one after the other in one folder, with fewer images and epochs than a user has."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from doc_blocks import DOCS, blocks
from PIL import Image

BLOCKS = [b for b in blocks(DOCS / "faq.md") if b.kind in ("sh", "python")]
PAINS = 15
QUIET = ("--device", "cpu", "--engine.threads", "1", "--engine.tensorboard", "false", "--engine.report", "false")
SHORT = ("--epochs", "1", *QUIET)
TEACHER = (*("--model.name", "resnet8"), *("--optim.lr", "0.1", "--optim.schedule", "one_cycle"))
FEW = ("--data.per_class", "30")
"""Digits of a class; a run that repeats another takes its number."""


def less(command, words):
    """Options that make a command short; the last of two counts."""
    data = FEW if not {"folder", "--config"} & set(words) else ()
    match command:
        case "train":
            return (
                *data,
                *QUIET,
                *TEACHER,
                *("--epochs", "20" if data else "4"),
                *("--optim.batch_size", "16" if data else "8"),
            )
        case "distill":
            epochs = () if {"--config", "--store"} & set(words) else ("--epochs", "1")
            batch = ("--optim.batch_size", "8") if "folder" in words else ()
            return (*data, *epochs, *batch, *QUIET)
        case "store" if words[1] == "build":
            return (*FEW, *QUIET)
        case "audit":
            return (*FEW, *SHORT)
        case "compare":
            options = zip(SHORT[::2], SHORT[1::2], strict=True)
            return (*(w for k, v in (*options, FEW) for w in (f"--run.{k[2:]}", v)),)
        case "difficulty" | "evaluate":
            return (*FEW, "--device", "cpu") if command == "difficulty" else ("--device", "cpu")
    return ()


@pytest.fixture(scope="module")
def done(tmp_path_factory, dlkd):
    """The folder in which all was done, and what every command said, by its words."""
    folder, said = tmp_path_factory.mktemp("faq"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        photographed(folder / "photos")
        for block in BLOCKS:
            if block.kind == "python":
                if named := re.match(r"# (\w+\.py)\n", block.text):
                    (folder / named[1]).write_text(block.text)
                exec(compile(block.text, "faq.md", "exec"), {"__name__": "faq"})
                continue
            for line, words in zip(block.text.splitlines(), block.commands, strict=True):
                if words[0] == "dlkd":
                    said[" ".join(words)] = dlkd(*words[1:], *less(words[1], words[1:]))
                    expected = 2 if line.endswith("# exit code 2") else 0
                    assert said[" ".join(words)].status == expected, (line, said[" ".join(words)])
        yield folder, said


def photographed(root):
    """Pictures of two kinds of things: reddish and bluish."""
    random = np.random.default_rng(0)
    for channel, name in ((0, "tomato"), (2, "plum")):
        (root / name).mkdir(parents=True)
        for k in range(24):
            colour = random.normal(90, 20, 3)
            colour[channel] += 80
            image = (colour + random.normal(0, 30, (40, 48, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / name / f"{k}.png")


def test_every_pain_has_an_answer_that_runs():
    text = (DOCS / "faq.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == PAINS
    for section in sections:
        assert re.search(r"^```(sh|python)$", section, re.MULTILINE), section.splitlines()[0]


def test_a_run_repeats_itself(done, same):
    assert same(done[0] / "runs/student", done[0] / "runs/again")


def test_files_that_are_promised(done):
    folder, _ = done
    for run in ("photo-student", "from-store", "auto-probe", "frugal", "small-input", "mixed"):
        assert (folder / "runs" / run / "student.safetensors").is_file(), run
    assert (folder / "exported/model.onnx").is_file() and (folder / "runs/compare/table.md").is_file()
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + 48
    assert (folder / "difficulty.csv").is_file() and (folder / "cleaned.csv").is_file()


def test_what_is_said(done):
    found = {words.split(" --out ")[-1]: d for words, d in done[1].items() if " --out " in words}
    assert "bad_batch" in found["runs/diverged"].err and found["runs/diverged"].err.count("\n") == 1
    table = (done[0] / "runs/compare/table.md").read_text()
    assert all(re.search(rf"^\| {name} ", table, re.MULTILINE) for name in ("ce", "kd", "dlkd"))


def test_two_processes(done, tmp_path):
    """The line of torchrun, by its module; a process group of its own, so that nothing is left behind."""
    (words,) = [w for b in BLOCKS if b.kind == "sh" for w in b.commands if w[0] == "torchrun"]
    small = (*FEW, *SHORT)
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words[1:], *small],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=done[0],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = launcher.communicate(timeout=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
    assert launcher.returncode == 0, said
    assert "batch norm" in said and (done[0] / "runs/two/student.safetensors").is_file()
