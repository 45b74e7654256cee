"""What auto comes to, by the number of images and the device; and that a resumed run keeps it."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
import yaml

from dlkd.data import DataOptions
from dlkd.jobs.run import run_or_go_on
from dlkd.pages.typed import TypedOptions
from dlkd.train.auto import as_recorded, precision, settled
from dlkd.train.checkpoint import CURRENT
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions
from dlkd.train.options import ModelOptions, RunOptions, TrainOptions

CPU = torch.device("cpu")
GREEDY = """
import torch
from torch import nn


class Greedy(nn.Module):
    def __init__(self, num_classes=10, in_chans=1):
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, x):
        if self.training and len(x) > 20:
            torch.empty(1 << 60, dtype=torch.uint8)  # for which no machine has memory
        return self.last(x.flatten(1))
"""


@pytest.mark.parametrize("samples", [2, 3, 4, 5, 7, 8, 9, 31, 100, 255, 256, 257, 1437, 2000, 13333, 13334, 50_000])
def test_epochs_and_batch_by_the_number_of_images(samples):
    found = settled(RunOptions(), samples, CPU)
    assert found.epochs == max(15, min(100, round(200_000 / samples)))
    largest = max(2**k for k in range(7) if 2**k == 1 or 4 * 2**k <= samples)  # four batches an epoch
    assert found.optim.batch_size == max(2, min(64, largest))
    assert found.optim.batch_size <= samples


def test_what_was_said_stays():
    asked = RunOptions(epochs=3, optim=OptimOptions(batch_size=48, lr=0.1), engine=EngineOptions(precision="bf16"))
    assert settled(asked, 10, CPU) == asked
    open_ones = ("epochs", "precision", "batch_size", "lr")
    found = settled(RunOptions(), 10, CPU)
    left = plain_values(found).items() - plain_values(RunOptions()).items()
    assert {name.split(".")[-1] for name, _ in left} == {*open_ones}


def plain_values(options):
    return {
        f"{group}.{name}": repr(value)
        for group, of in (("", options), ("optim", options.optim), ("engine", options.engine))
        for name, value in vars(of).items()
        if name not in ("optim", "engine")
    }


def test_half_precision_is_for_gpus_that_have_it():
    assert precision(EngineOptions(), "cpu") == precision(EngineOptions(), "mps") == "fp32"
    assert precision(EngineOptions(precision="fp16"), "cuda") == "fp16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_precision_of_this_gpu():
    assert precision(EngineOptions(), "cuda") == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32")


def test_as_recorded_fills_in_what_is_open_and_nothing_else():
    page = {"epochs": 7, "seed": 9, "optim": {"batch_size": 4, "accumulate": 2, "lr": 9.0}, "engine": {"fused": "auto"}}
    found = as_recorded(RunOptions(), page)
    assert (found.epochs, found.optim) == (7, OptimOptions(batch_size=4, accumulate=2, lr=9.0))
    assert (found.seed, found.engine) == (0, EngineOptions())
    asked = RunOptions(epochs=3, optim=OptimOptions(batch_size=48, lr=0.1))
    assert as_recorded(asked, page) == asked
    assert as_recorded(RunOptions(), {"optim": None}) == RunOptions()


@pytest.fixture(scope="module")
def small(tmp_path_factory, good):
    """A run on 12 images of each digit, nothing of which says how long or how many at once: and what it printed."""
    out = tmp_path_factory.mktemp("auto") / "run"
    command = ("train", "--out", out, "--model", "resnet8x0.5", "--data.per_class", 12, "--engine.report", "false")
    # 12 without a tenth of each class, which is one: 110 images; of 110 // 4 the power of two below is 16.
    done = good(*command, "--device", "cpu", "--engine.tensorboard", "false", "--engine.threads", 1, "--epochs", 2)
    return out, done


def test_every_auto_is_said_and_kept_as_a_number(small):
    out, done = small
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["epochs"], config["optim"]["batch_size"], config["engine"]["precision"]) == (2, 16, "fp32")
    (line,) = [line for line in done.out.splitlines() if line.startswith("auto:")]
    assert line == (
        "auto: batch size 16, learning rate 0.05, precision fp32, channels last no, fused optimizer no, workers 0"
    )
    card = json.loads((out / "run.json").read_text())
    assert card["settings"]["optim"]["batch_size"] == 16 and card["data"]["samples"] == 110


def test_a_file_of_options_makes_the_run_again(small, tmp_path, good, same):
    good("train", "--config", small[0] / "config.yaml", "--out", tmp_path / "again")
    assert same(small[0], tmp_path / "again")


def test_from_python_a_run_goes_on_with_what_auto_came_to(small, tmp_path, same):
    """Its options are auto still: in its folder are the numbers."""
    options = TrainOptions(
        out=tmp_path / "run",
        device="cpu",
        data=DataOptions(per_class=12),
        model=ModelOptions("resnet8x0.5"),
        engine=EngineOptions(report=False, tensorboard=False, threads=1, checkpoint_every=1),
        early_stop=1,
        optim=OptimOptions(lr=1e-9),
    )
    run_or_go_on(options)
    before = json.loads((tmp_path / "run" / "results.json").read_text())
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for name in ("results.json", "student.safetensors"):
        (tmp_path / "copy" / name).unlink()
    after = run_or_go_on(replace(options, out=tmp_path / "copy"))
    assert (tmp_path / "copy" / CURRENT).exists() and same(tmp_path / "run", tmp_path / "copy")
    assert after["test"] == before["test"] and math.isfinite(after["seconds"])


def test_a_batch_that_was_left_to_us_is_cut_until_it_fits(tmp_path, own_module, train, good, dlkd, same):
    own_module("greedy", GREEDY)
    command = ("--model.name", "greedy:Greedy", "--engine.checkpoint_every", 1)
    done = good(*train(tmp_path / "auto", *command))
    assert "note: a training step of 64 images does not fit into the memory of cpu, but one of 16 does" in done.out
    assert "batch size 64 in 4 parts" in done.out
    config = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())["optim"]
    assert (config["batch_size"], config["accumulate"]) == (16, 4)
    assert any(
        "does not fit" in remark for remark in json.loads((tmp_path / "auto" / "run.json").read_text())["remarks"]
    )
    # Killed at its first checkpoint, and gone on with by who left the batch to us again.
    (killed := tmp_path / "killed").mkdir()
    for name in ("run.json", "config.yaml", "labels.npz"):
        shutil.copy(tmp_path / "auto" / name, killed / name)
    recorded = TypedOptions(TrainOptions)(yaml.safe_load((killed / "config.yaml").read_text()))
    run_or_go_on(replace(recorded, out=killed, optim=OptimOptions(lr=recorded.optim.lr)))
    assert same(tmp_path / "auto", killed)
    said = ("--optim.batch_size", 16, "--optim.accumulate", 4)
    good(*train(tmp_path / "said", *command, *said))
    assert same(tmp_path / "auto", tmp_path / "said")
    # Who says 64 means it.
    done = dlkd(*train(tmp_path / "no", *command, "--optim.batch_size", 64))
    assert done.status == 2 and "give --optim.batch_size 16 --optim.accumulate 4" in done.err
    assert not (tmp_path / "no").exists()
