"""Named methods: the defaults that are promised, and one line for every mistake."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from dlkd import DifficultyTemperature, DLKDLoss
from dlkd.errors import UserError
from dlkd.methods import METHODS, LossOptions, Signals, make_method, resolve_loss

STATED = {
    "ce": {"ce_weight": 1.0},
    "kd": {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    "dlkd": {
        "t_easy": 2.0,
        "t_hard": 6.0,
        "gamma": 1.0,
        "level": "rank",
        "scale": "per_sample",
        "ce_weight": 0.1,
        "kd_weight": 0.9,
        "distance_temperature": 1.0,
    },
}


def signals(dtype=torch.float64):
    g = torch.Generator().manual_seed(2)
    s, t = torch.randn(2, 6, 4, generator=g, dtype=dtype)
    return Signals(s.requires_grad_(), t, torch.tensor([0, 1, 2, 3, 0, 1]), torch.linspace(0, 1, 6))


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
    method, x = make_method(name), signals()
    if method.level is not None:
        method.level.calibrate(torch.rand(100))
    parts = method.parts(x)
    parts.total.backward()
    assert parts.total.ndim == 0 and parts.total.isfinite() and parts.total > 0
    assert x.student_logits.grad.isfinite().all() and x.student_logits.grad.abs().sum() > 0
    assert parts.label.shape == (6,)
    assert METHODS[name].formula and METHODS[name].reference


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_an_option_and_reaches_the_method(name):
    known = {f.name for f in fields(LossOptions)}
    assert METHODS[name].defaults.keys() <= known
    # Halving any number of a method changes its loss, unless it only enters with a distance.
    base, x = make_method(name).parts(signals()).total, signals()
    for setting, value in METHODS[name].defaults.items():
        if isinstance(value, float) and setting != "distance_temperature":
            changed = make_method(name, LossOptions(**{setting: value / 2})).parts(x).total
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
    assert isinstance(method, DLKDLoss)
    assert (method.temperature.mapping.t_easy, method.level.mode, method.scale) == (6.0, "absolute", "mean")
    assert method.distance_temperature == 3.0


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
