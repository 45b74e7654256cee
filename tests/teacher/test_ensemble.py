"""Several teachers as one: the mean that is promised, each shown what it wants to see, pruned and folded as a whole."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from torch import nn

from dlkd import FrozenTeacher, prune_teacher
from dlkd.models import InputFormat, cifar_resnet
from dlkd.teacher import AveragedTeacher, fold_batch_norms


class Fixed(nn.Module):
    """The same logits whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits


class Spy(nn.Module):
    """Its logits are statistics of what it was shown."""

    def forward(self, x):
        return torch.stack([x.mean(dim=(1, 2, 3)), x.new_full((len(x),), x.shape[-1])], dim=1)


def networks():
    torch.manual_seed(0)
    found = [cifar_resnet("resnet8x0.5", 7).eval() for _ in range(2)]
    for norm in (m for model in found for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return found, torch.rand(5, 3, 8, 8)


IMAGES = torch.rand(4, 3, 8, 8)


@given(st.integers(1, 4), st.floats(0.1, 1000), st.integers(0, 2**20))
@settings(deadline=None, max_examples=40)
def test_both_means_are_their_formula_in_float64(members, scale, seed):
    z = np.random.default_rng(seed).normal(size=(members, 4, 6)) * scale
    models = [Fixed(torch.tensor(x)) for x in z]
    assert np.allclose(AveragedTeacher(models)(IMAGES).detach(), z.mean(0), rtol=1e-12, atol=1e-12)
    found = AveragedTeacher(models, average="probabilities")(IMAGES).detach().numpy()
    # Written the other way round: the mean first, the logarithm of each class by itself.
    expected = logsumexp(log_softmax(z, axis=2), axis=0, b=1 / members)
    assert np.allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert np.allclose(softmax(found, axis=1), softmax(z, axis=2).mean(0), rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_a_teacher_with_itself_is_the_teacher(members):
    (model, _), x = networks()
    logits = model(x)
    by_logits = AveragedTeacher([model] * members)(x)
    assert torch.equal(by_logits, logits) if members < 3 else torch.allclose(by_logits, logits)
    by_probabilities = AveragedTeacher([model] * members, average="probabilities")(x)
    torch.testing.assert_close(by_probabilities, torch.log_softmax(logits, dim=1), rtol=1e-5, atol=1e-5)


def test_probabilities_that_vanish_stay_finite():
    sure, other = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    found = AveragedTeacher([Fixed(sure), Fixed(other)], average="probabilities")(IMAGES)
    assert found.isfinite().all() and torch.allclose(found.softmax(1), torch.tensor([[0.5, 0.5, 0.0]]))


def test_each_member_sees_its_own_format():
    formats = [InputFormat((0.5,) * 3, (0.25,) * 3, 16), None, InputFormat(resolution=4)]
    found = AveragedTeacher([Spy()] * 3, formats)(torch.full((2, 3, 8, 8), 0.75))
    assert torch.allclose(found, torch.tensor([[(1 + 0.75 + 0.75) / 3, (16 + 8 + 4) / 3]] * 2))


def test_a_probe_is_a_pruned_copy_of_the_whole():
    models, x = networks()
    whole = AveragedTeacher(models)
    # Ranked in each layer, pruning the whole is pruning each of them; ranked together it is not.
    apart = AveragedTeacher([prune_teacher(m, 0.3, "layer") for m in models])
    assert torch.equal(prune_teacher(whole, 0.3, "layer")(x), apart(x))
    together = prune_teacher(whole, 0.3)
    zeros = [sum(int((w == 0).sum()) for w in m.parameters()) for m in (together, *together.members)]
    weights = [w for m in models for w in m.parameters() if w.ndim > 1]
    assert zeros[0] == zeros[1] + zeros[2] and zeros[0] >= round(0.3 * sum(w.numel() for w in weights))


def test_frozen_folded_and_in_another_memory_format():
    models, x = networks()
    whole = AveragedTeacher(models, average="probabilities").eval()
    expected = whole(x).detach()
    folded = copy.deepcopy(whole)
    assert fold_batch_norms(folded, x).note == "folded 18 of 18 batch norms"
    frozen = FrozenTeacher(folded, [prune_teacher(whole, 0.3)], channels_last=True)
    frozen.models[0].train()
    out = frozen(x)
    torch.testing.assert_close(out.logits, expected, rtol=1e-4, atol=1e-4)
    assert not any(m.training for m in folded.modules()) and not any(p.requires_grad for p in folded.parameters())
    assert out.distance().shape == (5,) and bool((out.distance() > 0).all())


def test_half_precision_is_left_before_the_mean():
    models, x = networks()
    out = FrozenTeacher(AveragedTeacher(models), autocast=torch.bfloat16)(x).logits
    assert out.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halves = [m(x) for m in models]
    assert halves[0].dtype == torch.bfloat16
    assert torch.equal(out, torch.stack([h.float() for h in halves]).mean(0))


def test_what_cannot_be_averaged():
    a, b = Fixed(torch.zeros(4, 3)), Fixed(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"one shape \[B, classes\], but got \[\[4, 3\], \[4, 2\]\]"):
        AveragedTeacher([a, b])(IMAGES)
    with pytest.raises(ValueError, match="one shape"):
        AveragedTeacher([Fixed(torch.zeros(4))])(IMAGES)
    for arguments in (([],), ([a], [None, None])):
        with pytest.raises(ValueError, match="at least one teacher and an input format for each"):
            AveragedTeacher(*arguments)
    with pytest.raises(ValueError, match="average"):
        AveragedTeacher([a], average="votes")
