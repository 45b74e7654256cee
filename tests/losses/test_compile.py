"""torch.compile takes every loss and every method whole: no graph break, the same value and gradient."""

import shutil

import pytest
import torch

from dlkd import DLKDLoss, losses
from dlkd.difficulty import DifficultyLevel
from dlkd.methods import METHODS, LabelOptions, Signals, make_method

B, C = 6, 7
G = torch.Generator().manual_seed(0)
STUDENT, TEACHER, PROBE = torch.randn(3, B, C, generator=G) * 3
HARD = torch.randint(0, C, (B,), generator=G)
SOFT = 0.4 * torch.nn.functional.one_hot(HARD, C) + 0.6 * torch.nn.functional.one_hot((HARD + 1) % C, C)
LEVEL = torch.linspace(0, 1, B)
LOSSES = {
    "kd": lambda s, y: losses.kd_loss(s, TEACHER, temperature=4.0),
    "kd, a temperature for each sample": lambda s, y: losses.kd_loss(s, TEACHER, temperature=1 + 5 * LEVEL),
    "dkd": lambda s, y: losses.dkd_loss(s, TEACHER, y),
    "nkd": lambda s, y: losses.nkd_loss(s, TEACHER, y),
    "mlkd": lambda s, y: losses.mlkd_loss(s, TEACHER),
    "dist": lambda s, y: losses.dist_loss(s, TEACHER),
    "r2kd_value": lambda s, y: losses.r2kd_value_loss(s, TEACHER, probe_logits=PROBE),
    "rld": lambda s, y: losses.rld_loss(s, TEACHER, y),
    "lskd": lambda s, y: losses.lskd_loss(s, TEACHER),
    "wsld": lambda s, y: losses.wsld_loss(s, TEACHER, y),
    "ttm": lambda s, y: losses.ttm_loss(s, TEACHER),
    "wttm": lambda s, y: losses.wttm_loss(s, TEACHER),
    "normkd": lambda s, y: losses.normkd_loss(s, TEACHER),
    "dtkd": lambda s, y: losses.dtkd_loss(s, TEACHER),
    "ats": lambda s, y: losses.ats_loss(s, TEACHER, y),
    "energy_kd": lambda s, y: losses.energy_kd_loss(s, TEACHER, low=-10.0, high=-8.0),
    "ea_kd": lambda s, y: losses.ea_kd_loss(s, TEACHER),
    "mse": lambda s, y: losses.mse_loss(s, TEACHER),
    "cross_entropy": lambda s, y: losses.cross_entropy(s, y).mean(),
    "gce": lambda s, y: losses.generalized_cross_entropy(s, y).mean(),
    "sce": lambda s, y: losses.symmetric_cross_entropy(s, y).mean(),
}


def value_and_gradient(function, *rest):
    student = STUDENT.clone().requires_grad_()
    value = function(student, *rest)
    value.backward()
    return value.detach(), student.grad


def same(function, *rest, backend="eager"):
    torch.compiler.reset()
    whole = torch.compile(function, fullgraph=True, backend=backend)
    torch.testing.assert_close(value_and_gradient(whole, *rest), value_and_gradient(function, *rest))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [HARD, SOFT], ids=["hard", "soft"])
def test_losses(name, target):
    same(LOSSES[name], target)


def test_every_public_loss_is_here():
    public = {name.removesuffix("_loss") for name in losses.__all__ if name.endswith("_loss")}
    assert public - LOSSES.keys() <= {"fitnet", "attention", "rkd"}


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.feature is None])
def test_methods(name):
    method = make_method(name)
    if method.level is not None:
        method.level.calibrate(torch.rand(100))
    same(lambda s: method.parts(Signals(s, TEACHER, HARD, LEVEL, PROBE)).total)


@pytest.mark.parametrize("term", ["smoothing", "gce", "sce", "trust"])
def test_label_terms(term):
    method = make_method("kd", label=LabelOptions(term))
    same(lambda s: method.parts(Signals(s, TEACHER, HARD, LEVEL)).total)


@pytest.mark.parametrize("scale", ["per_sample", "mean"])
def test_dlkd_loss_with_its_distances(scale):
    criterion = DLKDLoss(scale=scale)
    criterion.calibrate(torch.rand(500, generator=G))
    same(lambda s: criterion(s, TEACHER, HARD, probe_logits=PROBE))


def test_a_loaded_level_is_known_to_be_calibrated():
    level, copy = DifficultyLevel(), DifficultyLevel()
    level.calibrate(torch.rand(500, generator=G))
    copy.load_state_dict(level.state_dict())
    assert copy.calibrated and torch.equal(torch.compile(copy, fullgraph=True, backend="eager")(LEVEL), level(LEVEL))
    copy.load_state_dict(DifficultyLevel().state_dict())
    assert not copy.calibrated


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_with_a_real_compiler(name):
    same(LOSSES[name], HARD, backend="inductor")
