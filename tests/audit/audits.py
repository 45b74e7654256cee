"""The audits of these tests: their options, and how what they leave is read."""

import copy
import csv
import json
import re

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from dlkd.models import build_model, load_model

FOLDS, NOISE, TAU = 3, 0.2, 0.25
DATA = ("--data.per_class", 30, "--data.noise", NOISE)
MACHINE = ("--device", "cpu", "--engine.threads", 1)
TRAINING = (
    *("--model.name", "resnet8x0.5", "--epochs", 8, "--engine.checkpoint_every", 2),
    *("--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16),
)
FILES = {"run.json", "config.yaml", "audit.csv", "audit.html", "audit.json", "predictions.npz"}


def read(file):
    return json.loads(file.read_text())


def rows_of(out):
    with (out / "audit.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(out, name):
    return np.array([float(row[name]) for row in rows_of(out)])


def words(out, name):
    return [row[name] for row in rows_of(out)]


def kept(out):
    with np.load(out / "predictions.npz") as found:
        return {name: found[name] for name in found.files}


def sheet_of(out):
    """The columns of the contact sheet."""
    page = (out / "audit.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def asked(folder, samples, probe=False, without_head=False):
    """What a trained model says of plain images, without any of the audit's code; float64."""
    loaded = load_model(None, folder, 10, channels=1)
    module = copy.deepcopy(loaded.module)
    if without_head:
        *_, (path, _) = (pair for pair in module.named_modules() if isinstance(pair[1], nn.Linear))
        module.set_submodule(path, nn.Identity())
    if probe:
        weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        sizes = np.sort(np.concatenate([w.detach().abs().numpy().ravel() for w in weights]))
        limit = float(sizes[round(0.3 * sizes.size) - 1])
        with torch.no_grad():
            for w in weights:
                w[w.abs() <= limit] = 0
    images = samples.pixels.array.float() / 255
    with torch.no_grad():
        return module.eval().double()(loaded.input_format(images).double()).numpy()


def model_of(classes, file):
    torch.manual_seed(0)
    save_file(build_model("resnet8x0.5", classes, channels=1).state_dict(), file)
    return file
