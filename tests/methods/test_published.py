"""Methods that are more than one loss: two views, the probe's logits, steps of energy, learned temperatures."""

import json
from pathlib import Path

import pytest
import torch

from dlkd import losses
from dlkd.errors import UserError
from dlkd.losses import energy_kd_loss, kd_loss, mlkd_loss, r2kd_value_loss
from dlkd.methods import METHODS, LossOptions, Signals, make_method

OFFICIAL = json.loads((Path(__file__).parents[1] / "losses" / "official.json").read_text())
INPUTS = {k: torch.tensor(v, dtype=None if k == "target" else torch.float64) for k, v in OFFICIAL["inputs"].items()}
STUDENT, TEACHER, PROBE, TARGET = (INPUTS[k] for k in ("student", "teacher", "probe", "target"))


def test_mlkd_code_variant_is_the_official_objective():
    (case,) = OFFICIAL["objectives"]
    weak, strong = STUDENT.clone().requires_grad_(), STUDENT.flip(1).clone().requires_grad_()
    method = make_method("mlkd", LossOptions(variant="code"))
    total = method.parts(Signals(weak, TEACHER, TARGET)).total
    total = total + method.parts(Signals(strong, PROBE, TARGET, strong=True)).total
    assert total.item() == pytest.approx(case["value"], rel=1e-9)
    total.backward()
    for view, key in ((weak, "gradient"), (strong, "strong_gradient")):
        torch.testing.assert_close(view.grad, torch.tensor(case[key], dtype=torch.float64), rtol=1e-8, atol=1e-10)


def published_on_z_scores(weak, strong, teacher, other, target, t=2.0):
    """MLKD of sunshangquan/logit-standardization-KD 6083e2d with its z-scores, in short: rungs T, 3, 5, 2, 6; instance
    terms of z-scores, Gram terms and masks of raw logits; CE 0.1, the rest 9."""

    def z(x):
        return (x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True))

    def kl(s, t_, rung):
        p, q = (torch.log_softmax(z(x) / rung, 1) for x in (t_, s))
        return rung**2 * (p.exp() * (p - q)).sum(1).mean()

    def gram(s, t_, rung, turned):
        p, q = (torch.softmax(x / rung, 1) for x in (t_, s))
        p, q = (p.T, q.T) if turned else (p, q)
        return (p @ p.T - q @ q.T).square().sum() / len(p)

    rungs = (t, 3.0, 5.0, 2.0, 6.0)
    sure = torch.softmax(teacher, 1)
    samples, kinds = ((c <= c.quantile(0.5)).double().mean() for c in (sure.amax(1), sure.sum(0)))
    instance = samples * sum(kl(weak, teacher, rung) for rung in rungs)
    instance += sum(kl(strong, other, rung) for rung in rungs[:3]) + sum(kl(weak, teacher, rung) for rung in rungs[3:])
    grams = sum(samples * gram(weak, teacher, rung, False) + kinds * gram(weak, teacher, rung, True) for rung in rungs)
    entropy = sum(torch.nn.functional.cross_entropy(x, target) for x in (weak, strong))
    return 0.1 * entropy + 9.0 * (instance + grams)


@pytest.mark.parametrize("name", ["mlkd+lskd", "zscore+mlkd"])
def test_mlkd_code_variant_on_z_scores_is_the_published_one(name):
    views = [STUDENT.clone().requires_grad_(), STUDENT.flip(1).clone().requires_grad_()]
    expected = published_on_z_scores(*views, TEACHER, PROBE, TARGET)
    method = make_method(name, LossOptions(variant="code"))
    total = sum(
        method.parts(Signals(view, said, TARGET, strong=strong)).total
        for view, said, strong in zip(views, (TEACHER, PROBE), (False, True), strict=True)
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-10)
    for found, wanted in zip(*(torch.autograd.grad(x, views) for x in (total, expected)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-11)
    # Of the paper, all levels are of z-scores and the whole ladder moves.
    plain = make_method(name, LossOptions(ce_weight=0.0, kd_weight=1.0)).parts(Signals(STUDENT, TEACHER, TARGET)).total
    s, t = (losses.z_score(x) for x in (STUDENT, TEACHER))
    torch.testing.assert_close(plain, mlkd_loss(s, t, temperatures=(1.0, 1.5, 2.0, 2.5, 3.0)))


def test_mlkd_code_variant_has_fixed_rungs_beside_t():
    """As its code: T = 2 stands beside 3, 5, 2 and 6, so that the strong views have 2, 3 and 5."""
    options = LossOptions(variant="code", temperature=2.0, ce_weight=0.0, kd_weight=1.0)
    found = make_method("mlkd", options).parts(Signals(STUDENT, TEACHER, TARGET, strong=True)).total
    expected = sum(kd_loss(STUDENT, TEACHER, temperature=t) for t in (2.0, 3.0, 5.0))
    torch.testing.assert_close(found, expected)


def test_r2kd_says_what_is_left_out():
    assert "second, augmented pass" in METHODS["r2kd"].differs


def test_mlkd_of_the_paper_is_the_loss_of_each_view():
    method = make_method("mlkd", LossOptions(ce_weight=0.0, kd_weight=1.0))
    for strong in (False, True):
        found = method.parts(Signals(STUDENT, TEACHER, TARGET, strong=strong)).total
        torch.testing.assert_close(found, mlkd_loss(STUDENT, TEACHER))


def test_mlkd_levels_are_the_gram_matrices():
    expected = 0.0
    for t in (2.0, 3.0, 4.0, 5.0, 6.0):
        p, q = torch.softmax(TEACHER / t, 1), torch.softmax(STUDENT / t, 1)
        expected += t * t * (p * (p.log() - q.log())).sum(1).mean()
        expected += (p @ p.T - q @ q.T).square().sum() / p.shape[0] + (p.T @ p - q.T @ q).square().sum() / p.shape[1]
    assert mlkd_loss(STUDENT, TEACHER).item() == pytest.approx(expected.item(), rel=1e-12)


def test_dlkd_on_mlkd_scales_the_whole_ladder():
    flat = LossOptions(t_easy=2.0, t_hard=2.0, ce_weight=0.0, kd_weight=1.0)
    found = make_method("dlkd+mlkd", flat).parts(Signals(STUDENT, TEACHER, TARGET, torch.rand(6))).total
    torch.testing.assert_close(found, mlkd_loss(STUDENT, TEACHER, temperatures=(1.0, 1.5, 2.0, 2.5, 3.0)))


def test_r2kd_and_the_mixture():
    signals = Signals(STUDENT, TEACHER, TARGET, probe_logits=PROBE)
    options = LossOptions(ce_weight=0.0, kd_weight=2.0, share=0.6)
    torch.testing.assert_close(
        make_method("r2kd", options).parts(signals).total,
        r2kd_value_loss(STUDENT, TEACHER, probe_logits=PROBE, share=0.6, weight=2.0),
    )
    mixed = make_method("probemix", LossOptions(ce_weight=0.0, kd_weight=1.0, share=0.6)).parts(signals).total
    torch.testing.assert_close(mixed, kd_loss(STUDENT, 0.6 * TEACHER + 0.4 * PROBE, temperature=4.0))
    with pytest.raises(ValueError, match="expected probe_logits"):
        make_method("r2kd").parts(signals._replace(probe_logits=None))


@pytest.mark.parametrize(("variant", "steps"), [("paper", (6.0, 4.0, 2.0)), ("code", (2.0, 4.0, 6.0))])
def test_energy_steps_by_quantiles(variant, steps):
    method = make_method("energy", LossOptions(variant=variant, ce_weight=0.0, kd_weight=1.0))
    views = torch.randn(5000, 7, generator=torch.Generator().manual_seed(0)).double() * 4
    energies = method.score(views)
    method.level.calibrate(energies)
    low, high = energies.quantile(0.2).item(), energies.quantile(0.8).item()
    clear = ((energies - low).abs() > 0.02) & ((energies - high).abs() > 0.02)
    teacher = views[clear][:64]
    student = torch.randn(len(teacher), 7, generator=torch.Generator().manual_seed(1)).double()
    signals = Signals(
        student, teacher, torch.zeros(len(teacher), dtype=torch.long), method.level(method.score(teacher))
    )
    expected = energy_kd_loss(student, teacher, low=low, high=high, t_easy=steps[0], t_middle=steps[1], t_hard=steps[2])
    found = method.parts(signals)
    assert set(found.temperature.tolist()) == {2.0, 4.0, 6.0}
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_learned_temperature_of_each_sample():
    method = make_method("ctkd", LossOptions(per_instance=True, ce_weight=0.0, kd_weight=1.0), classes=7)
    method.start_epoch(100)
    student = STUDENT.clone().requires_grad_()
    parts = method.parts(Signals(student, TEACHER, TARGET))
    start = 1 + 20 * torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(parts.temperature, start.double().expand(6))
    parts.total.backward()
    torch.testing.assert_close(
        student.grad,
        torch.autograd.grad(kd_loss(s := STUDENT.clone().requires_grad_(), TEACHER, temperature=float(start)), s)[0],
    )
    # The reversed gradient climbs: a step against it raises the loss.
    with torch.no_grad():
        for p in method.parameters():
            p -= 0.5 * p.grad
        assert method.parts(Signals(STUDENT, TEACHER, TARGET)).total > parts.total
    assert method.parts(Signals(STUDENT, TEACHER, TARGET)).temperature.unique().numel() == 6
    with pytest.raises(UserError, match="number of classes"):
        make_method("ctkd", LossOptions(per_instance=True))


def test_every_method_names_its_code_settings():
    for name, method in METHODS.items():
        assert bool(method.code) <= ("variant" in method.defaults), name
        assert method.code.keys() <= method.defaults.keys(), name
        assert method.latex and method.reference, name


@pytest.mark.parametrize("name", ["ctkd", "ctkd+dkd", "ctkd+dist", "ctkd+r2kd", "ctkd+mlkd"])
def test_a_learned_temperature_gets_its_whole_gradient(name):
    """That of the teacher's half too: against a difference quotient of the loss in θ."""
    method = make_method(name, LossOptions(ce_weight=0.0, kd_weight=1.0)).double()
    method.start_epoch(100)
    signals = Signals(STUDENT.clone().requires_grad_(), TEACHER, TARGET, probe_logits=PROBE)
    theta = method.temperature.theta
    (found,) = torch.autograd.grad(method.parts(signals).total, theta)
    step = 1e-6
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            theta += sign * step
            values.append(method.parts(signals).total)
            theta -= sign * step
    assert found.item() == pytest.approx(-((values[0] - values[1]) / (2 * step)).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["dkd", "nkd", "rld"])
def test_one_sample_with_two_labels(name):
    """The mean of the losses of both labels by their shares, in a batch of one as in any other."""
    function = getattr(losses, f"{name}_loss")
    soft = torch.zeros(1, 7, dtype=torch.float64)
    soft[0, 2], soft[0, 5] = 0.3, 0.7
    two, five = (function(STUDENT[:1], TEACHER[:1], torch.tensor([c])) for c in (2, 5))
    torch.testing.assert_close(function(STUDENT[:1], TEACHER[:1], soft), 0.3 * two + 0.7 * five)


def test_an_empty_batch_has_no_relation():
    empty = torch.zeros(0, 7)
    assert losses.dist_loss(empty, empty, reduction="none").shape == (0,)
    assert losses.r2kd_value_loss(empty, empty, reduction="none").shape == (0,)
