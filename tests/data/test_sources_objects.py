"""Any Dataset object, and a function that makes one by name."""

import pytest
import torch
from digit_files import DIGITS, TARGET, TRAIN, any_order, same_digits
from PIL import Image
from torch.utils.data import TensorDataset

from dlkd.data import DataOptions, load_data
from dlkd.data.sources import from_dataset
from dlkd.errors import UserError


class Photos:
    """A map-style data set of PIL images."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, k):
        return Image.fromarray(DIGITS[self.numbers[k]]), int(TARGET[self.numbers[k]])


def test_objects(tmp_path):
    any_order(from_dataset(Photos(TRAIN)), TRAIN)
    grey, target = torch.from_numpy(DIGITS[:20])[:, None], torch.from_numpy(TARGET[:20])
    assert same_digits(from_dataset(TensorDataset(grey, target)), TRAIN)
    assert same_digits(from_dataset(TensorDataset(grey.float().expand(-1, 3, -1, -1) / 255, target)), TRAIN)
    named = from_dataset(Photos(TRAIN), [f"digit {k}" for k in range(10)])
    assert named.class_names[9] == "digit 9" and named.pixels.name(3) == "3"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (iter(()), "to have a length and samples by number, but got tuple_iterator"),
        ([], "expected a label for each sample of the data set, but found 0"),
        (
            [(Image.new("L", (8, 8)), "cat")] * 4,
            r"give \(image, class number\) for each sample, but it failed: invalid",
        ),
        ([Image.new("L", (8, 8))] * 4, "but it failed"),
        ([("x.png", 0), ("y.png", 1)], "sample 0 of the data set cannot be read: .*but got str"),
        ([(torch.randn(3, 8, 8) * 9, k) for k in (0, 1)], r"in \[0, 1\], but got .*leave out the normalisation"),
        ([(torch.zeros(4, 8, 8), k) for k in (0, 1)], r"one or three channels, but got \[4, 8, 8\]"),
        ([(torch.zeros(3, 8, 8).long(), k) for k in (0, 1)], "uint8 or floating-point pixels, but got int64"),
        ([(torch.zeros(3, 8, 8), 0)] * 2, r"at least two classes in the data set, but found 1 \(0\)"),
        ([(torch.zeros(3, 8, 8), k) for k in (-1, 0)], "count the classes from 0, but found -1"),
    ],
)
def test_objects_that_cannot_be(data, message):
    with pytest.raises(UserError, match=message) as error:
        from_dataset(data)
    assert "\n" not in str(error.value)


FACTORIES = """
from pathlib import Path
from torchvision.datasets import FakeData

def pair(root):
    assert isinstance(root, Path)
    fake = FakeData(24, (3, 16, 16), 3), FakeData(6, (3, 16, 16), 3, random_offset=24)
    for each in fake:
        each.classes = ["x", "y", "z"]
    return fake

def one():
    return FakeData(24, (3, 16, 16), 3)

def three():
    return 1, 2, 3

def fails():
    raise RuntimeError("no disk")
"""


@pytest.fixture
def factories(own_module):
    own_module("own_images", FACTORIES)


def test_factories(factories, tmp_path, dlkd):
    data = load_data(DataOptions("own_images:pair", held_out=0.0))
    assert (len(data.train), len(data.test)) == (24, 6) and data.train.class_names == ("x", "y", "z")
    assert "names no test images" in load_data(DataOptions("own_images:one")).remarks[0]
    done = dlkd(
        *("train", "--out", tmp_path / "out", "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "own_images:pair", "--data.image_size", 16, "--data.workers", 0, "--optim.batch_size", 8),
        *("--engine.report", "false", "--engine.threads", 1, "--engine.tensorboard", "false", "--data.held_out", 0),
    )
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_images:three", r"give \(training, test\) images, but got 3 things"),
        ("own_images:fails", "own_images:fails raised RuntimeError: no disk"),
        ("own_images:none", "expected 'none' in 'own_images' for the data set"),
        ("no_such_module:x", "expected a Python module 'no_such_module' for the data set"),
        ("cifar-10", r"one of digits, cifar10, .*but got 'cifar-10'; did you mean cifar10\?"),
        ("hf:", "--data.name to be one of"),
    ],
)
def test_names_that_cannot_be(factories, dlkd, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load_data(DataOptions(name))
    done = dlkd("train", "--out", tmp_path / "out", "--data.name", name)
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1
