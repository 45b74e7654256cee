"""Runs for one process or several: ``together.py FOLDER TEACHER NAME…`` makes the run FOLDER/NAME of each."""

import sys
from pathlib import Path

import torch.distributed
from torch import nn

from dlkd.cli import main

CASES = {
    "dlkd": ("--engine.evaluate_every", 1),
    "level of the batch": ("--loss.level", "batch", "--optim.clip", 0.5, "--optim.ema", 0.9),
    "mean": ("--loss.scale", "mean", "--views.mixing", "mixup"),
    "robust": ("--method", "dlkd-robust", "--data.noise", 0.4, "--probe.level_views", 2),
    "accumulated": ("--method", "dist", "--optim.accumulate", 2, "--optim.batch_size", 6),
    "shuffled": ("--loss.shuffled", "true", "--optim.accumulate", 2, "--optim.batch_size", 6),
    "two views": ("--method", "mlkd",),
    "learned": ("--method", "ctkd", "--loss.per_instance", "true"),
    "memory": ("--method", "kd", "--label.term", "elr"),
    "relations": ("--method", "rkd", "--feature.student_layers", 2),
    "maps": ("--method", "kd+fitnet", "--feature.student_layers", 2, "--feature.teacher_layers", "layer1"),
    "early stop": (*("--method", "kd", "--epochs", 8, "--early_stop", 1, "--engine.evaluate_every", 1),
                   *("--optim.lr", 1e-3)),
    "unlabelled": ("--method", "r2kd", "--data.labelled", 0.5),
}  # fmt: skip
"""Everything of a method that several processes might get wrong, each at least once."""


def small(num_classes=10, in_chans=1):
    """A student without batch norm, the same for one process and several."""
    convolution = nn.Conv2d(in_chans, 8, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, num_classes))


def run(folder, teacher, name):
    """One case on ten digits of each class."""
    common = (
        *("--student.name", "together:small", "--teacher.weights", teacher, "--data.per_class", 10, "--epochs", 2),
        *("--optim.batch_size", 12, "--optim.lr", 0.01, "--engine.evaluate_every", 0, "--engine.report", "false"),
        *("--data.held_out", 0.2, "--engine.tensorboard", "false", "--engine.threads", 1, "--device", "cpu"),
    )
    main([str(a) for a in ("distill", "--out", folder / name.replace(" ", "-"), *common, *CASES[name])])


if __name__ == "__main__":
    # One meeting of the processes for all runs, where a user's run has one of its own.
    destroy, torch.distributed.destroy_process_group = torch.distributed.destroy_process_group, lambda *_: None
    sys.path.insert(0, str(Path(__file__).parent))
    for case in sys.argv[3:]:
        run(Path(sys.argv[1]), sys.argv[2], case)
    if torch.distributed.is_initialized():  # else its threads may still be at work when the process ends
        destroy()
