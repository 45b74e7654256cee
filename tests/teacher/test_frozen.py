"""FrozenTeacher: never trained, never woken, never in a checkpoint."""

import pytest
import torch
from torch import nn

from dlkd import FrozenTeacher, prune_teacher
from dlkd.models import cifar_resnet


def teacher_and_images():
    torch.manual_seed(0)
    return cifar_resnet("resnet8", 10), torch.rand(4, 3, 32, 32)


def test_eval_is_pinned_and_buffers_do_not_move():
    model, x = teacher_and_images()
    frozen = FrozenTeacher(model, [prune_teacher(model, 0.3)])
    first = frozen(x)
    buffers = {k: v.clone() for k, v in model.state_dict().items()}
    for woken in frozen.models:
        woken.train()
    second = frozen(x)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.probe_logits[0], second.probe_logits[0])
    assert all(torch.equal(buffers[k], v) for k, v in model.state_dict().items())


def test_outside_the_module_tree_and_frozen():
    model, _ = teacher_and_images()
    student = nn.Linear(2, 2)
    student.teacher = FrozenTeacher(model)
    assert list(student.state_dict()) == ["weight", "bias"]
    assert not any(p.requires_grad for p in model.parameters())


def test_output_can_be_a_target():
    model, x = teacher_and_images()
    logits = FrozenTeacher(model)(x).logits
    w = torch.ones_like(logits, requires_grad=True)
    (w * logits).sum().backward()
    assert torch.equal(w.grad, logits) and not logits.is_inference()


def test_own_normalisation_and_resolution():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean(dim=(2, 3))

    FrozenTeacher(Spy(), mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5], resolution=8)(torch.full((1, 3, 4, 4), 0.6))
    assert seen[0].shape == (1, 3, 8, 8)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([1.0, 0.8, 0.6]))
    with pytest.raises(ValueError, match="together"):
        FrozenTeacher(Spy(), mean=[0.1, 0.2, 0.3])


def test_distance_is_the_mean_over_probes():
    model, x = teacher_and_images()
    out = FrozenTeacher(model, [prune_teacher(model, s) for s in (0.0, 0.6)])(x)
    single = FrozenTeacher(model, [prune_teacher(model, 0.6)])(x)
    torch.testing.assert_close(out.distance(), single.distance() / 2)
    with pytest.raises(ValueError, match="probe"):
        FrozenTeacher(model)(x).distance()
