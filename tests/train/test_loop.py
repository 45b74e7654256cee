"""The loop learns, is deterministic, and shows every method the same views."""

import pytest
import torch

from dlkd.data import CropFlip, ImageArrays, digits
from dlkd.losses import cross_entropy
from dlkd.models.cifar import CifarResNet
from dlkd.train import Schedule, fit
from dlkd.train.loop import batches, decay_groups


def small():
    data = digits()
    return ImageArrays(data.images[:256], data.labels[:256])


def train(loss, dropout=0.0, epochs=3):
    torch.manual_seed(0)
    model = torch.nn.Sequential(CifarResNet(8, (8, 8, 8, 16), 10, 1), torch.nn.Dropout(dropout))
    fit(model, small(), CropFlip(1, False), loss, Schedule(epochs), seed=5)
    return model


def test_same_seed_same_student_whatever_was_drawn_before():
    def loss(logits, batch):
        return cross_entropy(logits, batch.labels).mean()

    a = train(loss, dropout=0.3)

    def noisy_neighbour(logits, batch):
        torch.rand(7)  # a method that draws must not change the student's dropout of the next step
        return loss(logits, batch)

    b = train(noisy_neighbour, dropout=0.3)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_loss_falls():
    seen = []

    def loss(logits, batch):
        seen.append(cross_entropy(logits, batch.labels).mean())
        return seen[-1]

    train(loss, epochs=15)
    assert sum(seen[-4:]) < 0.8 * sum(seen[:4])


def test_every_epoch_shows_every_sample_once():
    data = small()
    numbered = ImageArrays(data.images, torch.arange(256))
    seen = [b.labels for b in batches(numbered, CropFlip(0, False), epochs=2, batch_size=64, seed=0)]
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert torch.equal(first.sort().values, torch.arange(256)) and not torch.equal(first, second)


def test_not_finite_names_the_step():
    with pytest.raises(FloatingPointError, match="step 0"):
        train(lambda logits, batch: logits.sum() * float("nan"))


def test_no_decay_on_norms_and_biases():
    model = CifarResNet(8, (4, 4, 8, 16), 10)
    decayed, free = decay_groups(model, 0.1)
    assert all(p.ndim > 1 for p in decayed["params"]) and free["weight_decay"] == 0
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
