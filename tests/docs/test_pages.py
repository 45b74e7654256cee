"""Blocks of pages that have no test of their own, on few images and epochs.

They are docs/audit.md, choosing.md, compare.md, data.md, losses.md, recipes.md and reliability.md.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
import yaml
from doc_blocks import DOCS, blocks
from PIL import Image

QUIET = ("--device", "cpu", "--engine.threads", 1, "--engine.tensorboard", "false", "--engine.report", "false")
OF_CELLS = (*("--run.data.per_class", 20, "--run.epochs", 1, "--run.device", "cpu", "--run.engine.threads", 1),)
TEACHER = (*("--data.per_class", 20, *QUIET, "--model.name", "resnet8x0.5", "--epochs", 15),)
TEACHER += ("--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16)


def commands(page, *starts):
    """The ``dlkd`` commands of the blocks of a page that begin so, without the first word."""
    found = [b for start in starts for b in blocks(DOCS / page) if b.kind == "sh" and b.text.startswith(start)]
    assert len(found) == len(starts)
    lines = [words for block in found for words in block.commands]
    assert {words[0] for words in lines} == {"dlkd"}
    return [words[1:] for words in lines]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_audit(here, photos, good, weights, table):
    """The audit with a network of ours in place of one to be fetched; decisions as the contact sheet exports them."""
    (here / "photos").symlink_to(photos)
    data = ("--data.name", "folder", "--data.root", "photos", "--data.image_size", 32, "--optim.batch_size", 8)
    net = (*data, "--model.name", "resnet8", "--epochs", 6, *QUIET)
    good("train", *net, "--out", "runs/teacher")
    audit, clean, distil = commands("audit.md", "dlkd audit", "dlkd clean")
    ours = ("--model.name", "resnet8", "--model.weights", "runs/teacher", "--model.pretrained", "false")
    good(*audit, *data, *ours, *QUIET)
    found = json.loads((here / "runs/audit/audit.json").read_text())
    row = next(row for row in table(here / "runs/audit/audit.csv") if row["given_label"] == "zero")
    decisions = [{"id": int(row["id"]), "mark": "wrong", "label": "one"}]
    (here / "decisions.json").write_text(json.dumps({"format": 1, "audit": found["audit"], "decisions": decisions}))
    good(*clean)
    (cleaned,) = [r for r in table(here / "cleaned.csv") if r["id"] == row["id"]]
    assert (cleaned["given_label"], cleaned["label"], cleaned["weight"]) == ("zero", "one", 1)
    good(*distil, *data, "--student.name", "resnet8", "--epochs", 1, *QUIET)
    assert weights(here / "runs/student")


@pytest.mark.parametrize("page", ["choosing.md", "compare.md"])
def test_a_comparison(here, good, page):
    train, compare = commands(page, "dlkd train")
    good(*train, *TEACHER)
    good(*compare, *OF_CELLS, "--run.student.name", "resnet8x0.5", "--seeds", 1, "--workers", 1)
    rows = json.loads((here / "runs/compare/results.json").read_text())["rows"]
    asked = yaml.safe_load(compare[compare.index("--methods") + 1])
    assert [row["method"] for row in rows] == asked and not any(row["not_run"] for row in rows)


def test_a_study_is_tuned_and_run(here, good):
    """docs/compare.md: the study, the tuning, the contest on what was tuned."""
    (study,) = [b.text for b in blocks(DOCS / "compare.md") if b.kind == "yaml"]
    (here / "study.yaml").write_text(study)
    for name, noise in (("clean", 0), ("noisy", 0.4)):
        good("train", "--data.noise", noise, "--out", f"runs/teacher-{name}", *TEACHER)
    tune, contest = commands("compare.md", "dlkd tune")
    good(*tune, *OF_CELLS, "--trials", 1, "--seeds", 1)
    assert yaml.safe_load((here / "runs/tune/tuned.yaml").read_text())
    good(*contest, *OF_CELLS, "--seeds", "[10]")
    rows = json.loads((here / "runs/contest/results.json").read_text())["rows"]
    assert {(row["condition"], row["method"]) for row in rows} == {
        (condition, method) for condition in ("clean", "noisy") for method in yaml.safe_load(study)["methods"]
    }


def test_a_data_set_of_ones_own(here, good, own_module, monkeypatch):
    """docs/data.md: the module as it stands; EuroSAT is a set to be fetched, so a few pictures stand for it."""

    class Pictures(list):
        def __init__(self, root):
            random = np.random.default_rng(0)
            noise = random.integers(0, 120, (40, 64, 64, 3), np.uint8)
            super().__init__((Image.fromarray(noise[k] + np.uint8(120 * (k % 2))), k % 2) for k in range(40))

    monkeypatch.setattr(torchvision.datasets, "EuroSAT", Pictures)
    (block,) = [b.text for b in blocks(DOCS / "data.md") if b.kind == "python"]
    own_module("my_images", block)
    data = ("--data.name", "my_images:satellite", "--data.image_size", 32, "--optim.batch_size", 8)
    good("train", *data, "--model.name", "resnet8", "--epochs", 1, *QUIET, "--out", "runs/own")
    assert json.loads((here / "runs/own/results.json").read_text())["test"]["accuracy"] % (100 / 8) == 0


def test_overlays_and_a_recipe_of_ones_own(here, good):
    """docs/recipes.md: what the pages say together, as --print_config shows it."""
    shown = [yaml.safe_load(good(*c, "--print_config").out) for c in commands("recipes.md", "dlkd train")]
    assert [s["data"]["noise_kind"] for s in shown] == ["pair", "pair"]
    assert [s["views"]["policy"] for s in shown] == ["trivialaugment", "trivialaugment"]
    (text,) = [b.text for b in blocks(DOCS / "recipes.md") if b.kind == "yaml"]
    (here / "mine.yaml").write_text(text)
    found, said = yaml.safe_load(good("distill", "--config", "mine.yaml", "--print_config").out), yaml.safe_load(text)
    for name, value in said.items():
        assert value.items() <= found[name].items() if isinstance(value, dict) else found[name] == value


def test_a_shell_that_resumes(here, teacher):
    """docs/reliability.md: the loop in a shell, with something to go on with."""
    (block,) = [b for b in blocks(DOCS / "reliability.md") if b.text.startswith("dlkd distill")]
    options = {"teacher": {"weights": str(teacher)}, "student": {"name": "resnet8x0.5"}, "epochs": 2, "device": "cpu"}
    quiet = {"threads": 1, "tensorboard": False, "report": False}
    (here / "run.yaml").write_text(yaml.safe_dump({**options, "data": {"per_class": 20}, "engine": quiet}))
    (here / "dlkd").write_text(f"#!{sys.executable}\n{STOPPED_ONCE}")
    (here / "dlkd").chmod(0o755)
    env = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "--norc", "-c", block.text], capture_output=True, text=True, cwd=here, env=env)
    assert done.returncode == 0, done.stderr
    assert (here / "RUN/results.json").is_file() and (here / "stopped").is_file()


STOPPED_ONCE = """
import os
import signal
from pathlib import Path

import dlkd.train.fit as fit
from dlkd.cli import main

step = fit.train_step


def last_step(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return step(*arguments)


if not Path("stopped").exists():
    Path("stopped").touch()
    fit.train_step = last_step
main()
"""
"""The command as the shell finds it: it is sent a SIGTERM in the first step of its first call."""


def test_a_loss_by_itself():
    """docs/losses.md: what it comes to is the mean of what it says of each, and the student learns from it."""
    (block,) = [b for b in blocks(DOCS / "losses.md") if b.kind == "python"]
    names = {}
    exec(block.text, names)
    labels = torch.nn.functional.cross_entropy(names["student_logits"], names["labels"])
    torch.testing.assert_close(names["loss"], labels + names["each"].mean())
    assert names["each"].shape == (8,) and names["student_logits"].grad.abs().sum() > 0
