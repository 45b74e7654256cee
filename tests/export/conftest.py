"""A distilled student of digits and its exports, made once; the pictures that it was tested on as files."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import refusals
import torch
from PIL import Image

from dlkd.data import load_data, plain_batches
from dlkd.jobs.of_run import data_of_run
from dlkd.models import load_model


class Truth(NamedTuple):
    """What the student itself says of all test images."""

    ids: np.ndarray
    images: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor


@pytest.fixture(scope="session")
def run(tmp_path_factory, good, distill):
    """The folder of a ``dlkd distill`` run with wrong labels."""
    out = tmp_path_factory.mktemp("export") / "run"
    good(*distill(out, "--epochs", 12, "--optim.batch_size", 16, "--data.noise", 0.2, "--seed", 3))
    return out


@pytest.fixture(scope="session")
def truth(run):
    test = load_data(data_of_run(run)).test
    images, labels = map(torch.cat, zip(*plain_batches(test), strict=True))
    loaded = load_model(None, run, 10, channels=1)
    with torch.no_grad():
        return Truth(test.ids, images, labels, loaded.module(loaded.input_format(images)))


@pytest.fixture(scope="session")
def onnx(run, tmp_path_factory, good):
    """An export to ONNX with everything that there is, and what was said about it."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    out = tmp_path_factory.mktemp("export") / "onnx"
    return out, good("export", run, "--out", out, "--int8", "--benchmark", "--threads", 1)


@pytest.fixture(scope="session")
def hub(run, tmp_path_factory, good):
    out = tmp_path_factory.mktemp("export") / "hub"
    good("export", run, "--to", "hub-folder", "--out", out, "--license", "mit")
    return out


@pytest.fixture(scope="session")
def of_files(tmp_path_factory, good, photos):
    """A timm student of image files, with mean, std and a side of its own."""
    out = tmp_path_factory.mktemp("export") / "of_files"
    good(
        *("train", "--out", out, "--model.name", "timm:test_resnet", "--model.resolution", 40, "--epochs", 2),
        *("--data.name", "folder", "--data.root", photos, "--data.image_size", 28, "--data.workers", 0),
        *("--optim.batch_size", 8, "--device", "cpu", "--engine.threads", 1),
        *("--engine.tensorboard", "false", "--engine.report", "false"),
    )
    return out


@pytest.fixture(scope="session")
def digits(truth, tmp_path_factory):
    """Test images as PNG files, named by their numbers, in folders within folders."""
    root = tmp_path_factory.mktemp("export") / "digits"
    for k, number in enumerate(truth.ids[:60]):
        folder = root / f"{k % 3}" / "inner"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((truth.images[k, 0] * 255).round().byte().numpy()).save(folder / f"{number:04d}.png")
    return root


@pytest.fixture(scope="session")
def record():
    return lambda folder, name="export.json": json.loads((folder / name).read_text())


@pytest.fixture(scope="session")
def refused():
    """One line, exit code 2, with all the words."""
    return refusals.refused
