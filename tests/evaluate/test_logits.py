"""Logits in eval mode; the model is left exactly as it was."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dlkd.data import plain_batches
from dlkd.data.sources import folder, in_memory
from dlkd.errors import UserError
from dlkd.evaluate import logits_of


def samples(n=300):
    pixels = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return in_memory(pixels, torch.arange(n) % 3, tuple("abc"))


def network(channels=1):
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.9),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    return nn.Sequential(*layers)


def test_logits_of_every_sample_in_order():
    model = network()
    logits, labels = logits_of(model, samples(), lambda x: (x - 0.5) / 0.25)
    expected = copy.deepcopy(model).eval()((samples().pixels.array / 255 - 0.5) / 0.25)
    assert torch.allclose(logits, expected, atol=1e-6) and logits.dtype == torch.float32 and not logits.requires_grad
    assert torch.equal(labels, samples().labels)
    assert torch.equal(logits_of(model, samples(), lambda x: (x - 0.5) / 0.25)[0], logits)


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("start", ["train", "eval", "batch norms frozen"])
def test_modes_and_buffers_are_left_alone(start):
    model = network().train(start != "eval")
    if start == "batch norms frozen":
        model[1].eval()
    before, state = modes(model), {k: v.clone() for k, v in model.state_dict().items()}
    logits_of(model, samples(), lambda x: x)
    assert modes(model) == before
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    assert all(p.requires_grad for p in model.parameters())


def test_modes_are_put_back_after_an_error(tmp_path):
    for k in range(3):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), k, np.uint8)).save(tmp_path / "ab"[k % 2] / f"{k}.png")
    photos, model = folder(tmp_path).train, network(3).train()
    logits, labels = logits_of(model, photos, lambda x: x, size=8)
    images = torch.cat([x for x, _ in plain_batches(photos, size=8)])
    assert torch.allclose(logits, copy.deepcopy(model).eval()(images), atol=1e-6) and labels.tolist() == [0, 0, 1]
    photos.pixels.paths[1].write_bytes(b"no image")
    before = modes(model)
    with pytest.raises(UserError, match="is damaged or no image"):
        logits_of(model, photos, lambda x: x, size=8)
    assert modes(model) == before and any(before.values())
