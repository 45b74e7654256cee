"""The algebra against a formula written out in float64: scale, weight, transform, batch part, label term."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from dlkd import DifficultyLevel, DifficultyTemperature, DLKDLoss
from dlkd.difficulty import DifficultyScore
from dlkd.losses import Temperatures
from dlkd.methods import Composition, Divergence, FixedTemperature, LossOptions, Signals, make_method
from dlkd.methods.composition import kl
from dlkd.methods.temperatures import TemperatureByDifficulty

B, C = 7, 5


class Pair(nn.Module):
    """Another temperature for the teacher than for the student, one for each sample."""

    def __init__(self, reference=None):
        super().__init__()
        g = torch.Generator().manual_seed(8)
        self.pair = Temperatures(*(1 + 4 * torch.rand(2, B, 1, generator=g, dtype=torch.float64)))
        self.reference = reference

    def forward(self, signals):
        return self.pair

    def mean_square(self, temperatures):
        product = temperatures.teacher * temperatures.student
        return product.mean() if self.reference is None else torch.tensor(self.reference, dtype=torch.float64)


def signals(soft=False):
    rng = np.random.default_rng(5)
    s, t = rng.normal(0, 2, (2, B, C))
    target = torch.tensor(rng.dirichlet(np.ones(C), B)) if soft else torch.tensor(rng.integers(0, C, B))
    level = torch.tensor(rng.random(B))
    return Signals(torch.tensor(s, requires_grad=True), torch.tensor(t), target, level)


def numpy_of(tensor):
    return tensor.detach().numpy()


def reference(signals, t_teacher, t_student, factor, weight=1.0, shift=0.0):
    """mean_i[u_i·s_i·KL_i] in numpy, where ``shift`` is added to the student's logits first."""
    log_p = log_softmax(numpy_of(signals.teacher_logits) / t_teacher, axis=1)
    log_q = log_softmax((numpy_of(signals.student_logits) + shift) / t_student, axis=1)
    return (weight * factor * (np.exp(log_p) * (log_p - log_q)).sum(1)).mean()


def label_term(signals):
    log_q = log_softmax(numpy_of(signals.student_logits), axis=1)
    target = signals.target
    y = np.eye(C)[target.numpy()] if not target.is_floating_point() else target.numpy()
    return -(y * log_q).sum(1).mean()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", ["per_sample", "mean", "none"])
def test_total_with_different_temperatures(scale, soft):
    rule, x = Pair(), signals(soft)
    t_teacher, t_student = (numpy_of(t) for t in rule.pair)
    factor = {"per_sample": (t_teacher * t_student)[:, 0], "mean": (t_teacher * t_student).mean(), "none": 1.0}[scale]
    parts = Composition(rule, scale=scale, label_weight=0.3, kd_weight=0.6).parts(x)
    expected = 0.3 * label_term(x) + 0.6 * reference(x, t_teacher, t_student, factor)
    assert parts.total.item() == pytest.approx(expected, rel=1e-11)
    assert parts.distillation.mean().item() == pytest.approx(reference(x, t_teacher, t_student, factor), rel=1e-11)
    assert parts.label.mean().item() == pytest.approx(label_term(x), rel=1e-11)
    assert torch.equal(parts.temperature, rule.pair.student[:, 0]) and parts.level is x.level


def test_mean_scale_asks_the_rule_for_its_reference():
    x = signals()
    t_teacher, t_student = (numpy_of(t) for t in Pair().pair)
    parts = Composition(Pair(7.5), scale="mean", label_weight=0, kd_weight=1).parts(x)
    assert parts.total.item() == pytest.approx(reference(x, t_teacher, t_student, 7.5), rel=1e-11)


def test_temperature_for_each_logit_scales_by_its_mean():
    class EachLogit(Pair):
        def __init__(self):
            super().__init__()
            g = torch.Generator().manual_seed(9)
            self.pair = Temperatures(*(1 + 4 * torch.rand(2, B, C, generator=g, dtype=torch.float64)))

    rule, x = EachLogit(), signals()
    t_teacher, t_student = (numpy_of(t) for t in rule.pair)
    parts = Composition(rule, label_weight=0, kd_weight=1).parts(x)
    expected = reference(x, t_teacher, t_student, (t_teacher * t_student).mean(axis=1))
    assert parts.total.item() == pytest.approx(expected, rel=1e-11)
    torch.testing.assert_close(parts.temperature, rule.pair.student.mean(dim=1))


@pytest.mark.parametrize("scale", ["per_sample", "mean", "none"])
def test_fixed_temperature(scale):
    x = signals()
    parts = Composition(FixedTemperature(3.0), scale=scale).parts(x)
    expected = 0.1 * label_term(x) + 0.9 * reference(x, 3.0, 3.0, 1.0 if scale == "none" else 9.0)
    assert parts.total.item() == pytest.approx(expected, rel=1e-11)
    assert parts.temperature.tolist() == [3.0] * B


def test_transform_is_seen_by_all_but_the_label_term():
    x, seen = signals(), []
    shift = torch.linspace(-1, 1, C, dtype=torch.float64)

    def transform(signals):
        return signals._replace(student_logits=signals.student_logits + shift)

    def weight(signals, temperatures):
        seen.append(signals.student_logits)
        return torch.ones(B)

    parts = Composition(FixedTemperature(2.0), transform=transform, weight=weight).parts(x)
    expected = 0.1 * label_term(x) + 0.9 * reference(x, 2.0, 2.0, 4.0, shift=shift.numpy())
    assert parts.total.item() == pytest.approx(expected, rel=1e-11)
    assert torch.equal(seen[0], x.student_logits + shift)


def test_the_temperature_is_that_of_the_transformed_logits():
    class BySpread(Pair):
        def forward(self, signals):
            t = signals.student_logits.detach().std(dim=1, keepdim=True)
            return Temperatures(t, t)

    x = signals()
    composition = Composition(
        BySpread(),
        transform=lambda s: s._replace(student_logits=3 * s.student_logits, teacher_logits=2 * s.teacher_logits),
        label_weight=0,
        kd_weight=1,
    )
    s, z = 3 * numpy_of(x.student_logits), 2 * numpy_of(x.teacher_logits)
    t = s.std(axis=1, ddof=1, keepdims=True)
    log_p, log_q = log_softmax(z / t, axis=1), log_softmax(s / t, axis=1)
    expected = (t[:, 0] ** 2 * (np.exp(log_p) * (log_p - log_q)).sum(1)).mean()
    assert composition.parts(x).total.item() == pytest.approx(expected, rel=1e-11)


def test_weights_touch_the_samples_and_never_the_batch_part():
    x = signals()
    u = torch.linspace(0, 3, B, dtype=torch.float64)

    def with_batch(signals, temperatures):
        return kl(signals, temperatures)._replace(batch=signals.student_logits.square().mean())

    parts = Composition(
        FixedTemperature(2.0), divergence=with_batch, weight=lambda s, t: u, label_weight=0, kd_weight=0.5
    ).parts(x)
    # The scale undoes the temperature in both parts: 2² here.
    batch = 4 * np.square(numpy_of(x.student_logits)).mean()
    expected = 0.5 * (reference(x, 2.0, 2.0, 4.0, weight=u.numpy()) + batch)
    assert parts.total.item() == pytest.approx(expected, rel=1e-11)
    # Weight zero leaves the batch part alone.
    none = Composition(
        FixedTemperature(2.0), divergence=with_batch, weight=lambda s, t: 0 * u, label_weight=0, kd_weight=0.5
    )
    assert none.parts(x).total.item() == pytest.approx(0.5 * batch, rel=1e-11)
    assert parts.distillation.shape == (B,) and parts.distillation[0] == 0


def test_own_divergence_and_label_term():
    x = signals()
    composition = Composition(
        FixedTemperature(2.0),
        divergence=lambda s, t: Divergence((s.student_logits - s.teacher_logits).square().sum(1)),
        label=lambda signals: torch.full((B,), 5.0),
        scale="none",
        label_weight=2.0,
        kd_weight=1.0,
    )
    expected = 10 + np.square(numpy_of(x.student_logits - x.teacher_logits)).sum(1).mean()
    assert composition.parts(x).total.item() == pytest.approx(expected, rel=1e-11)


def test_label_weight_zero_leaves_the_labels_out():
    x = signals()
    composition = Composition(FixedTemperature(2.0), label_weight=0, kd_weight=1)
    other = x._replace(target=(x.target + 1) % C)
    a, b = composition.parts(x), composition.parts(other)
    assert torch.equal(a.total, b.total) and not torch.equal(a.label, b.label)
    assert torch.equal(*(torch.autograd.grad(p.total, x.student_logits)[0] for p in (a, b)))
    # Even a label that is infinitely wrong, whose 0·∞ would be NaN.
    hopeless = Signals(torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2), torch.tensor([1]))
    parts = Composition(
        FixedTemperature(2.0),
        divergence=lambda s, t: Divergence(torch.ones(1)),
        label_weight=0,
        kd_weight=1,
        scale="none",
    ).parts(hopeless)
    assert parts.label.isinf().all() and parts.total == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, None) for name in ("dkd", "nkd", "rld", "wsld", "ats", "dlkd+dkd")),
        ("dlkd", LossOptions(score="cross_entropy")),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_terms_that_look_at_the_label_refuse_an_image_without(name, options, soft):
    """The −1 of an image without a label is no class; as class 0 it would teach."""
    x, method = signals(soft), make_method(name, options)
    labelled = torch.ones(B, dtype=torch.float64)
    labelled[[1, 4]] = 0
    target = x.target * labelled[:, None] if soft else torch.where(labelled > 0, x.target, -1)
    with pytest.raises(ValueError, match=r"a label of every image, but 2 of 7 have none.*kd or dlkd"):
        method.parts(x._replace(target=target, labelled=labelled))
    # A label of less weight is one, and methods that leave the label to its own term ask for none.
    assert method.parts(x._replace(labelled=(1 + labelled) / 2)).total.isfinite()
    for other in ("kd", "dlkd", "lskd", "ce"):
        assert make_method(other).parts(x._replace(target=target, labelled=labelled)).total.isfinite()


def test_labels_are_looked_at_where_some_may_be_missing_only():
    """No value is read otherwise: a GPU would wait for it."""

    class Silent(torch.Tensor):
        def __bool__(self):
            raise AssertionError("looked at")

        __int__ = __float__ = item = __bool__

    method = make_method("dkd")
    method._check_labelled(None)
    make_method("kd")._check_labelled(torch.zeros(B).as_subclass(Silent))
    with pytest.raises(AssertionError, match="looked at"):
        method._check_labelled(torch.zeros(B).as_subclass(Silent))


def test_gradient_goes_to_the_student_only():
    x = signals()
    teacher = x.teacher_logits.clone().requires_grad_()
    Composition(FixedTemperature(2.0)).parts(x._replace(teacher_logits=teacher)).total.backward()
    s = x.student_logits
    y = torch.nn.functional.one_hot(x.target, C)
    expected = 0.1 * (softmax(numpy_of(s), 1) - y.numpy())
    expected += 0.9 * 2 * (softmax(numpy_of(s) / 2, 1) - softmax(numpy_of(teacher) / 2, 1))
    np.testing.assert_allclose(s.grad.numpy(), expected / B, rtol=1e-9, atol=1e-12)
    assert teacher.grad is None


def test_without_a_teacher():
    x = signals()
    method = make_method("ce")
    parts = method.parts(x)
    assert not method.needs_teacher and method.level is None
    assert parts.total.item() == pytest.approx(label_term(x), rel=1e-11)
    assert parts.distillation is None and parts.temperature is None
    # Whatever the teacher says: it does not enter.
    silent = x._replace(teacher_logits=torch.full((B, C), torch.nan, dtype=torch.float64))
    assert torch.equal(method.parts(silent).total, parts.total)


def test_level_is_that_of_the_temperature():
    assert Composition(FixedTemperature(1.0)).level is None
    rule = TemperatureByDifficulty(DifficultyTemperature(), DifficultyLevel("batch"), DifficultyScore())
    assert Composition(rule).level is rule.level
    criterion = DLKDLoss(level="absolute")
    assert criterion.level is criterion.temperature.level
    assert isinstance(criterion.level, DifficultyLevel) and criterion.level.mode == "absolute"
    assert criterion.needs_teacher and make_method("dlkd").level.mode == "rank"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "t2"}, "scale"),
        ({"label_weight": -0.1}, "ce_weight"),
        ({"label_weight": float("inf")}, "ce_weight"),
        ({"kd_weight": float("nan")}, "kd_weight"),
        ({"label_weight": 0, "kd_weight": 0}, "nothing to learn from"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Composition(FixedTemperature(2.0), **arguments)


def test_a_method_without_teacher_needs_its_labels():
    with pytest.raises(ValueError, match="nothing to learn from"):
        Composition(None, label_weight=0, kd_weight=1)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_fixed_temperature(bad):
    with pytest.raises(ValueError, match="temperature"):
        FixedTemperature(bad)
