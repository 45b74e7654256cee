"""auto_sparsity: the largest that keeps enough, scanning upwards to the first that does not."""

import weakref

import pytest
import torch
from torch import nn

from dlkd.difficulty import auto_sparsity, prune_teacher
from dlkd.models import cifar_resnet


def staircase():
    """A teacher whose accuracy at each sparsity is known: class k rests on the weight k + 1 alone."""
    model = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.arange(1.0, 11.0)))
        # Off the diagonal next to nothing, and less than that of class 0, which would win ties.
        model.weight[~torch.eye(10, dtype=torch.bool)] = -1e-3
        model.weight[0] -= 1e-3 * (1 - torch.eye(10)[0])
    return model, torch.eye(10), torch.arange(10)


def test_known_accuracies():
    model, images, labels = staircase()
    # 90 of 100 weights are tiny: at 0.9 the diagonal still stands, each 0.01 above takes one class more
    # (the first is class 0, which an all-zero row of logits predicts all the same).
    grid = (0.5, 0.9, 0.92, 0.95, 0.97)
    found = auto_sparsity(model, lambda: [(images[:4], labels[:4]), (images[4:], labels[4:])], keep=0.9, grid=grid)
    assert found.teacher_accuracy == 100
    assert [s for s, _ in found.table] == [0.5, 0.9, 0.92, 0.95]
    assert [a for _, a in found.table] == pytest.approx([100, 100, 90, 60])
    assert found.sparsity == 0.92
    assert auto_sparsity(model, lambda: [(images, labels)], keep=1.0, grid=grid).sparsity == 0.9


def test_stops_at_the_first_that_fails_even_if_a_later_one_is_lucky():
    torch.manual_seed(0)
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, -1.0], [2.9, -0.5]]))
    images, labels = torch.tensor([[1.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1])
    accuracies = {
        s: (prune_teacher(model, s)(images).argmax(1) == labels).float().mean().item() for s in (0.25, 0.5, 0.75)
    }
    found = auto_sparsity(model, lambda: [(images, labels)], keep=1.0, grid=(0.25, 0.5, 0.75))
    assert accuracies == {0.25: 1.0, 0.5: 0.5, 0.75: 0.5}
    assert found.sparsity == 0.25 and len(found.table) == 2


def test_batches_are_asked_for_one_by_one():
    """Held-out sets may be larger than the memory of a device."""
    model, images, labels = staircase()
    alive, most = [], []

    def batches():
        for k in range(10):
            batch = images[k : k + 1].clone()
            alive.append(weakref.ref(batch))
            most.append(sum(x() is not None for x in alive))
            yield batch, labels[k : k + 1]
            del batch

    found = auto_sparsity(model, batches, keep=0.9, grid=(0.5, 0.9, 0.92, 0.95))
    assert (found.sparsity, found.teacher_accuracy) == (0.92, 100)
    assert len(most) == 5 * 10 and max(most) <= 2  # the next one is made before the last one's name is given away


def test_mode_and_weights_of_the_teacher_stay():
    torch.manual_seed(0)
    model = cifar_resnet("resnet8", 10).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(16, 3, 32, 32)
    labels = prune_teacher(model, 0.0)(images).argmax(dim=1)
    found = auto_sparsity(model, lambda: [(images, labels)], keep=0.5, grid=(0.05, 0.1))
    assert found.teacher_accuracy == 100 and found.sparsity in (0.05, 0.1)
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_errors():
    model, images, labels = staircase()

    def batches():
        return [(images, labels)]

    with pytest.raises(ValueError, match=r"accuracy of 100\.00 %, but the smallest sparsity 0\.95 .* 60\.00 %"):
        auto_sparsity(model, batches, grid=(0.95,))
    with pytest.raises(ValueError, match="right on none"):
        auto_sparsity(model, lambda: [(images, (labels + 1) % 10)])
    with pytest.raises(ValueError, match="at least one image"):
        auto_sparsity(model, lambda: iter(()))
    with pytest.raises(ValueError, match="labels of shape"):
        auto_sparsity(model, lambda: [(images, torch.eye(10))])
    for keep in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="keep"):
            auto_sparsity(model, batches, keep=keep)
    for grid in ((), (0.3, 0.2), (0.2, 0.2)):
        with pytest.raises(ValueError, match="rising"):
            auto_sparsity(model, batches, grid=grid)
