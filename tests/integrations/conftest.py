"""A teacher that moves as soon as somebody wakes it, and how to tell that nobody did."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from dlkd import Distiller


class Net(nn.Module):
    """Batch norm and dropout: both move in training mode. Takes images as timm and Lightning or as the Trainer do."""

    def __init__(self, width, classes=4, drop=0.0):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Dropout(drop)
        self.head = nn.Linear(width, classes)

    def forward(self, pixel_values):
        return self.head(self.drop(torch.relu(self.norm(self.conv(pixel_values))).mean(dim=(2, 3))))


class WithLogits(Net):
    """The same, with an output as those of Hugging Face."""

    def forward(self, pixel_values):
        return {"logits": super().forward(pixel_values)}


@pytest.fixture
def net():
    def make(width=8, classes=4, drop=0.0, kind=Net):
        torch.manual_seed(width + classes)
        return kind(width, classes, drop)

    return make


@pytest.fixture
def with_logits():
    return WithLogits


@pytest.fixture
def teacher(net):
    model = net(16, drop=0.5)
    model.norm.running_mean.uniform_(-0.2, 0.2)
    model.norm.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(32, 3, 8, 8, generator=generator), torch.randint(0, 4, (32,), generator=generator)


@pytest.fixture
def distiller(teacher, data):
    made = Distiller(teacher)
    made.calibrate([data[0]])
    return made


def tensors(tree):
    """Every tensor in nested dictionaries and lists, with the way to it."""
    if isinstance(tree, torch.Tensor):
        yield "", tree
    elif isinstance(tree, Mapping | list | tuple):
        for name, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from ((f"{name}.{rest}", tensor) for rest, tensor in tensors(value))


@pytest.fixture
def without_teacher():
    """Check that what is saved holds no tensor of the teacher or its probes, under no name."""

    def check(saved, distiller):
        found = list(tensors(saved))
        assert found and not any("teacher" in name or "probe" in name for name, _ in found)
        for model in distiller.teacher.models:
            for own in model.state_dict().values():
                if own.numel() > 1:
                    assert not any(t.shape == own.shape and torch.equal(t.cpu(), own) for _, t in found)
        return {name.rstrip(".") for name, _ in found}

    return check


@pytest.fixture
def pinned():
    """Take a picture of teacher and probes; what is returned checks them against it, to the last bit."""

    def watch(distiller):
        models = distiller.teacher.models
        assert len(models) == 2 and all(any("running_mean" in k for k in m.state_dict()) for m in models)
        before = [copy.deepcopy(m.state_dict()) for m in models]

        def check():
            for model, old in zip(models, before, strict=True):
                assert all(torch.equal(old[k], v) for k, v in model.state_dict().items())
                assert not any(p.requires_grad or p.grad is not None for p in model.parameters())

        return check

    return watch


@pytest.fixture
def wake():
    """Call ``train()`` on all there is."""

    def everything(*modules, distiller):
        for module in (*modules, distiller, *distiller.teacher.models):
            module.train()

    return everything
