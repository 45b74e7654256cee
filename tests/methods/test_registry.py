"""Named methods: the defaults that are promised, and one line for every mistake."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from dlkd import DifficultyTemperature, DLKDLoss, losses
from dlkd.errors import UserError
from dlkd.methods import METHODS, LossOptions, Signals, make_method, resolve_loss

STATED = {
    "ce": {"ce_weight": 1.0},
    "kd": {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    "dlkd": {
        "t_easy": 2.0,
        "t_hard": 6.0,
        "gamma": 1.0,
        "score": "distance",
        "level": "rank",
        "scale": "per_sample",
        "ce_weight": 0.1,
        "kd_weight": 0.9,
        "distance_temperature": 1.0,
        "shuffled": False,
    },
}


LEVELS = torch.tensor([0.0, 0.15, 0.4, 0.6, 0.85, 1.0])


def signals(dtype=torch.float64):
    g = torch.Generator().manual_seed(2)
    s, t, probe = torch.randn(3, 6, 4, generator=g, dtype=dtype)
    student, teacher = torch.randn(2, 6, 8, 3, 3, generator=g, dtype=dtype)
    return Signals(
        s.requires_grad_(),
        t,
        torch.tensor([0, 1, 2, 3, 0, 1]),
        LEVELS,
        probe,
        student_features=(student.requires_grad_(),),
        teacher_features=(teacher,),
    )


def made(name, options=None):
    """The method; one of inner layers is told of the features of :func:`signals`."""
    method = make_method(name, options)
    if method.features is not None:
        torch.manual_seed(0)
        method.features.connect([(8, 3, 3)], [(8, 3, 3)])
    return method.double() if method.features is not None else method


def test_defaults_are_those_stated():
    # These three must stay as they are; a method that comes later brings its own.
    assert {name: resolve_loss(name, LossOptions()) for name in STATED} == STATED


def test_defaults_of_dlkd_are_those_of_its_loss_and_mapping():
    of_loss = {n: p.default for n, p in inspect.signature(DLKDLoss).parameters.items()}
    assert of_loss == METHODS["dlkd"].defaults
    mapping = DifficultyTemperature()
    assert [mapping.t_easy, mapping.t_hard, mapping.gamma] == [of_loss[k] for k in ("t_easy", "t_hard", "gamma")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_finite_loss_and_gradient(name):
    method, x = made(name), signals()
    if method.level is not None:
        method.level.calibrate(torch.rand(100))
    parts = method.parts(x)
    parts.total.backward()
    assert (x.student_features[0].grad is not None) == (method.features is not None)
    assert parts.total.ndim == 0 and parts.total.isfinite() and parts.total > 0
    assert x.student_logits.grad.isfinite().all() and x.student_logits.grad.abs().sum() > 0
    assert parts.label.shape == (6,)
    assert METHODS[name].formula and METHODS[name].reference


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_an_option_and_reaches_the_method(name):
    known = {f.name for f in fields(LossOptions)}
    assert METHODS[name].defaults.keys() <= known
    # Halving any number of a method changes its loss, unless it only enters with a distance.
    base, x = made(name).parts(signals()).total, signals()
    for setting, value in METHODS[name].defaults.items():
        if isinstance(value, float) and setting not in ("distance_temperature", "warmup_epochs", "ramp_epochs"):
            changed = made(name, LossOptions(**{setting: value / 2 or 0.1})).parts(x).total
            assert changed.item() != pytest.approx(base.item(), rel=1e-6), setting


def test_kd_is_its_formula():
    x = signals()
    s, t = x.student_logits.detach().numpy(), x.teacher_logits.numpy()
    log_p, log_q = log_softmax(t / 5, 1), log_softmax(s / 5, 1)
    expected = 0.2 * -log_softmax(s, 1)[range(6), x.target].mean()
    expected += 0.7 * 25 * (np.exp(log_p) * (log_p - log_q)).sum(1).mean()
    method = make_method("kd", LossOptions(temperature=5.0, ce_weight=0.2, kd_weight=0.7))
    assert method.parts(x).total.item() == pytest.approx(expected, rel=1e-11)


def test_given_options_win():
    given = LossOptions(t_easy=6.0, t_hard=2.0, level="absolute", scale="mean", distance_temperature=3.0)
    settings = resolve_loss("dlkd", given)
    assert settings == {
        **STATED["dlkd"],
        "t_easy": 6.0,
        "t_hard": 2.0,
        "level": "absolute",
        "scale": "mean",
        "distance_temperature": 3.0,
    }
    method = make_method("dlkd", given)
    assert (method.temperature.mapping.t_easy, method.level.mode, method.scale) == (6.0, "absolute", "mean")


@pytest.mark.parametrize(("name", "near"), [("dlkdd", "dlkd"), ("DKL", None), ("", None), ("k d", "kd"), ("cee", "ce")])
def test_unknown_method_names_the_nearest(name, near):
    with pytest.raises(UserError, match="did you mean") as caught:
        make_method(name)
    message = str(caught.value)
    assert "\n" not in message and repr(name) in message and all(m in message for m in METHODS)
    if near is not None:
        assert f"did you mean {near!r}?" in message


@pytest.mark.parametrize(
    ("name", "option"),
    [("ce", {"temperature": 2.0}), ("kd", {"t_easy": 1.0}), ("dlkd", {"temperature": 4.0}), ("ce", {"kd_weight": 1.0})],
)
def test_foreign_option_is_refused(name, option):
    with pytest.raises(UserError, match=f"method {name} has no --loss.{next(iter(option))}") as caught:
        make_method(name, LossOptions(**option))
    assert all(setting in str(caught.value) for setting in METHODS[name].defaults)


@pytest.mark.parametrize("name", ["mse", "mse+zscore"])
def test_a_temperature_that_nothing_reads_is_refused(name):
    with pytest.raises(UserError, match="has no --loss\\.temperature"):
        make_method(name, LossOptions(temperature=8.0))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("kd", {"temperature": 0.0}),
        ("kd", {"temperature": float("nan")}),
        ("kd", {"ce_weight": -1.0}),
        ("kd", {"ce_weight": 0.0, "kd_weight": 0.0}),
        ("ce", {"ce_weight": 0.0}),
        ("dlkd", {"t_easy": -1.0}),
        ("dlkd", {"gamma": float("inf")}),
        ("dlkd", {"level": "ranked"}),
        ("dlkd", {"scale": "t2"}),
        ("dlkd", {"distance_temperature": 0.0}),
    ],
)
def test_bad_values_are_one_line(name, option):
    with pytest.raises(UserError, match="expected") as caught:
        make_method(name, LossOptions(**option))
    assert "\n" not in str(caught.value) and f"method {name}" in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_its_loss_function(name):
    """The composition and the public function of a method are one: w_ce·CE + w_kd·loss."""
    functions = {
        "kd": lambda s, t, y: losses.kd_loss(s, t, temperature=4.0),
        "dlkd": lambda s, t, y: losses.kd_loss(s, t, temperature=2 + 4 * LEVELS.double()),
        "ea": losses.ea_kd_loss,
        "energy": lambda s, t, y: losses.kd_loss(s, t, temperature=torch.tensor([6.0, 6.0, 4.0, 4.0, 2.0, 2.0])),
        "r2kd": lambda s, t, y: losses.r2kd_value_loss(s, t, probe_logits=x.probe_logits, weight=1.0),
        "probemix": lambda s, t, y: losses.kd_loss(s, 0.7 * t + 0.3 * x.probe_logits, temperature=4.0),
    }
    if name in ("ce", "ls", "ctkd", "dlkd-robust", "fitnet", "at", "rkd"):
        pytest.skip("no such function")
    function = functions.get(name) or getattr(losses, f"{name}_loss")
    x, settings = signals(), resolve_loss(name, LossOptions())
    expected = settings["ce_weight"] * losses.cross_entropy(x.student_logits, x.target).mean()
    expected = expected + settings["kd_weight"] * function(x.student_logits, x.teacher_logits, x.target)
    torch.testing.assert_close(make_method(name).parts(x).total, expected, rtol=1e-6, atol=1e-9)


def test_warm_up_counts_epochs_from_one_and_leaves_the_labels_alone():
    x, method = signals(), make_method("dkd")
    full, label = method.parts(x).total, losses.cross_entropy(x.student_logits, x.target).mean()
    for epoch, share in ((0, 0.05), (9, 0.5), (19, 1.0), (50, 1.0)):
        method.start_epoch(epoch)
        torch.testing.assert_close(method.parts(x).total, label + share * (full - label))


def test_learned_temperature_climbs_against_the_student():
    method, x = make_method("ctkd"), signals()
    theta = method.temperature.theta
    assert method.parts(x).temperature[0].item() == pytest.approx(15.62, abs=0.01)
    plain = 0.9 * losses.kd_loss(
        x.student_logits, x.teacher_logits, temperature=1 + 20 * torch.sigmoid(torch.ones(6)).double()
    )
    torch.testing.assert_close(plain + method.label_weight * method.parts(x).label.mean(), method.parts(x).total)
    gradients = []
    for epoch in (0, 4, 9, 30):
        method.start_epoch(epoch)
        gradients.append(torch.autograd.grad(method.parts(x).total, theta)[0].item())
    # Published strengths: 0.0245 in the first epoch, 1 from the tenth on; the sign is turned.
    ratios = [g / gradients[-1] for g in gradients]
    assert ratios == pytest.approx([0.02447, 0.5, 1.0, 1.0], abs=1e-4)
    tau = (1 + 20 * torch.sigmoid(torch.ones(()).double())).requires_grad_()
    log_p, log_q = ((z / tau).log_softmax(1) for z in (x.teacher_logits, x.student_logits.detach()))
    value = 0.9 * tau**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    slope = (
        torch.autograd.grad(value, tau)[0] * 20 * torch.sigmoid(torch.ones(())) * (1 - torch.sigmoid(torch.ones(())))
    )
    assert gradients[-1] == pytest.approx(-slope.item(), rel=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "dlkd+dkd",
        "dlkd+nkd",
        "dlkd+dist",
        "dlkd+zscore",
        "dlkd+dkd+zscore",
        "dkd+lskd",
        "dlkd+wsld",
        "dlkd+ea",
        "ctkd+dkd",
    ],
)
def test_compositions(name):
    method, x = make_method(name), signals()
    if method.level is not None:
        method.level.calibrate(torch.rand(100))
    total = method.parts(x).total
    total.backward()
    assert total.isfinite() and x.student_logits.grad.isfinite().all()


def test_what_a_composition_takes_from_whom():
    settings = resolve_loss("dlkd+dkd+zscore", LossOptions())
    # DLKD's temperature, DKD's parts and label weight, LSKD's weight of the teacher, as its authors combine it.
    assert (settings["t_easy"], settings["beta"], settings["ce_weight"], settings["kd_weight"]) == (2.0, 8.0, 1.0, 9.0)
    assert "temperature" not in settings
    assert make_method("dkd+lskd").temperature.temperature == 2.0


def test_flat_dlkd_on_dkd_is_dkd():
    x = signals()
    flat = make_method("dlkd+dkd", LossOptions(t_easy=4.0, t_hard=4.0))
    assert torch.equal(flat.parts(x).total, make_method("dkd").parts(x).total)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dkd+nkd", "dkd and nkd do not go together: each has a divergence of its own"),
        ("dlkd+ttm", "dlkd and ttm do not go together: each has a temperature of its own"),
        ("wsld+ea", "weight of its own"),
        ("dlkd+rld", "rld takes no temperature of each sample"),
        ("dlkd+mse", "mse takes no temperature"),
        ("normkd+nkd", "undoes the temperature in its own way"),
        ("ce+dkd", "ce alone"),
        ("dkd+dkd", "once"),
        ("dlkd+dkt", "did you mean"),
    ],
)
def test_impossible_compositions_say_why(name, reason):
    with pytest.raises(UserError, match=r"expected|together") as caught:
        make_method(name)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_label_smoothing():
    x = signals()
    log_q = log_softmax(x.student_logits.detach().numpy(), 1)
    expected = (0.8 * -log_q[range(6), x.target] + 0.2 * -log_q.mean(1)).mean()
    assert make_method("ls", LossOptions(smoothing=0.2)).parts(x).total.item() == pytest.approx(expected)
    with pytest.raises(UserError, match="smoothing"):
        make_method("ls", LossOptions(smoothing=1.0))
