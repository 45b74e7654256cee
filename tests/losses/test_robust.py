"""Label terms for wrong labels: limits, closed forms, official numbers, extremes."""

import json
import math
from pathlib import Path

import pytest
import torch

from dlkd import losses
from dlkd.errors import UserError
from dlkd.methods import LabelOptions, LossOptions, Signals, make_method
from dlkd.train.checkpoint import load_checkpoint

OFFICIAL = json.loads((Path(__file__).parent / "official.json").read_text())
INPUTS = {k: torch.tensor(v, dtype=None if k == "target" else torch.float64) for k, v in OFFICIAL["inputs"].items()}
STUDENT, TEACHER, TARGET = (INPUTS[k] for k in ("student", "teacher", "target"))
CASES = {(c["method"], i): c for i, c in enumerate(OFFICIAL["label_terms"])}
LEVEL = torch.linspace(0, 1, 6, dtype=torch.float64)
SOFT = 0.3 * torch.nn.functional.one_hot(TARGET, 7).double() + 0.7 * torch.nn.functional.one_hot((TARGET + 2) % 7, 7)
TERMS = {
    "gce": losses.generalized_cross_entropy,
    "sce": losses.symmetric_cross_entropy,
    "elr": lambda z, y: losses.early_learning_regularizer(z, torch.softmax(TEACHER[: len(z), : z.shape[1]], 1)),
}


@pytest.mark.parametrize("key", [k for k in CASES if k[0] == "symmetric_cross_entropy"])
def test_sce_is_the_reproduction_s(key):
    case, student = CASES[key], STUDENT.clone().requires_grad_()
    value = losses.symmetric_cross_entropy(student, TARGET, **case["arguments"]).mean()
    # Its predictions are kept above 1e-7, which moves the value by less than 1e-5.
    assert value.item() == pytest.approx(case["value"], rel=1e-6)
    value.backward()
    torch.testing.assert_close(student.grad, torch.tensor(case["gradient"], dtype=torch.float64), rtol=1e-4, atol=1e-6)


def test_sce_has_the_weights_of_its_authors_for_cifar_100():
    # YisenWang/symmetric_cross_entropy_for_noisy_labels 235d93b, train_models.py: -alpha 6.0 -beta 0.1.
    stated = losses.symmetric_cross_entropy(STUDENT, TARGET, alpha=6.0, beta=0.1)
    assert torch.equal(losses.symmetric_cross_entropy(STUDENT, TARGET), stated)
    term = make_method("ce", label=LabelOptions("sce"))
    assert torch.equal(term.parts(Signals(STUDENT, TEACHER, TARGET)).label, stated)


def test_the_page_of_a_run_with_the_earlier_beta_is_still_read():
    """It holds ``label.beta: 1.0`` whatever its label term, as that was the default."""
    made = make_method("kd", label=LabelOptions(beta=1.0)).parts(Signals(STUDENT, TEACHER, TARGET)).total
    assert torch.equal(made, make_method("kd").parts(Signals(STUDENT, TEACHER, TARGET)).total)
    with pytest.raises(UserError, match=r"the label term sce with label\.beta"):
        make_method("kd", label=LabelOptions(beta=0.5))


def test_elr_is_the_official_one():
    (case,) = (c for (name, _), c in CASES.items() if name == "elr")
    options = LabelOptions("elr", **case["arguments"])
    method = make_method("ce", classes=7, samples=10, label=options).double()
    positions = torch.tensor([3, 1, 4, 0, 9, 2])
    method.parts(Signals(TEACHER, TEACHER, TARGET, positions=positions))
    student = STUDENT.clone().requires_grad_()
    total = method.parts(Signals(student, TEACHER, TARGET, positions=positions)).total
    assert total.item() == pytest.approx(case["value"], rel=1e-9)
    total.backward()
    torch.testing.assert_close(student.grad, torch.tensor(case["gradient"], dtype=torch.float64), rtol=1e-8, atol=1e-12)
    assert method.state_dict()["label.memory"][[5, 6, 7, 8]].abs().sum() == 0


def test_gce_between_cross_entropy_and_absolute_error():
    p = torch.softmax(STUDENT, 1)[range(6), TARGET]
    torch.testing.assert_close(losses.generalized_cross_entropy(STUDENT, TARGET, q=1.0), 1 - p)
    small = losses.generalized_cross_entropy(STUDENT, TARGET, q=1e-7)
    torch.testing.assert_close(small, losses.cross_entropy(STUDENT, TARGET), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(losses.generalized_cross_entropy(STUDENT, TARGET), (1 - p**0.7) / 0.7)


def test_sce_without_the_reverse_part_and_its_closed_form():
    ce = losses.cross_entropy(STUDENT, TARGET)
    torch.testing.assert_close(losses.symmetric_cross_entropy(STUDENT, TARGET, alpha=1.0, beta=0.0), ce)
    p = torch.softmax(STUDENT, 1)[range(6), TARGET]
    reverse = losses.symmetric_cross_entropy(STUDENT, TARGET, alpha=0.0, beta=1.0, log_zero=-4.0)
    torch.testing.assert_close(reverse, 4 * (1 - p))


def test_soft_labels():
    """GCE is the mean over the labels by their shares; so is the cross-entropy in SCE."""
    one, other = (losses.generalized_cross_entropy(STUDENT, y) for y in (TARGET, (TARGET + 2) % 7))
    torch.testing.assert_close(losses.generalized_cross_entropy(STUDENT, SOFT), 0.3 * one + 0.7 * other)
    p = torch.softmax(STUDENT, 1)
    rows = range(6)
    shares = p[rows, TARGET] * math.log(0.3) + p[rows, (TARGET + 2) % 7] * math.log(0.7)
    rest = (1 - p[rows, TARGET] - p[rows, (TARGET + 2) % 7]) * math.log(1e-4)
    found = losses.symmetric_cross_entropy(STUDENT, SOFT, alpha=0.0, beta=1.0)
    torch.testing.assert_close(found, -(shares + rest))


@pytest.mark.parametrize("name", TERMS)
def test_extremes_and_gradient(name):
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 5.0], [0.0, 0.0, 0.0]], requires_grad=True)
    value = TERMS[name](z, torch.tensor([0, 0, 2]))
    value.sum().backward()
    assert value.isfinite().all() and z.grad.isfinite().all()
    half = TERMS[name](z.detach().bfloat16(), torch.tensor([0, 0, 2]))
    assert half.dtype == torch.float32
    x = STUDENT[:3, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: TERMS[name](s, TARGET[:3] % 4), x)


def test_trust():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.34, 0.33, 0.33]])
    y = torch.tensor([0, 1, 1, 2])
    level = torch.tensor([0.0, 0.0, 1.0, 0.0])
    # Agreement, a sure contradiction on an easy sample, the same on the hardest one, and hardly a contradiction.
    torch.testing.assert_close(losses.label_trust(p.log(), y, level), torch.tensor([1.0, 0.5, 1.0, 0.99]))
    torch.testing.assert_close(losses.label_trust(p.log(), y), torch.tensor([1.0, 0.5, 0.5, 0.99]))
    both = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(losses.label_trust(both.clamp(min=1e-30).log(), both), torch.ones(1))


@pytest.mark.parametrize("method", ["ce", "kd", "dlkd+dkd"])
@pytest.mark.parametrize("term", ["ce", "smoothing", "gce", "sce", "elr"])
def test_every_method_takes_every_label_term(method, term):
    made = make_method(method, classes=7, samples=6, label=LabelOptions(term))
    x = Signals(STUDENT, TEACHER, TARGET, torch.rand(6), positions=torch.arange(6))
    plain = make_method(method).parts(x)
    parts = made.parts(x)
    assert parts.total.isfinite() and (term == "ce") == torch.equal(parts.total, plain.total)
    if method != "ce":
        torch.testing.assert_close(parts.distillation, plain.distillation)


@pytest.mark.parametrize("term", ["ce", "smoothing", "gce", "sce", "elr", "trust"])
def test_unlabelled_images_stay_out_of_every_term(term):
    """Soft targets of zero and class numbers of −1 say the same; what is half known counts half."""
    known = torch.tensor([1.0, 0.0, 0.5, 0.0, 1.0, 1.0], dtype=torch.float64)
    hard = torch.where(known == 0, -1, TARGET)
    whole = torch.nn.functional.one_hot(TARGET, 7).double()

    def total(target, labelled):
        made = make_method("kd", LossOptions(kd_weight=0.0), classes=7, samples=6, label=LabelOptions(term)).double()
        return made.parts(Signals(STUDENT, TEACHER, target, LEVEL, labelled=labelled, positions=torch.arange(6))).total

    soft = total(known.unsqueeze(1) * whole, known)
    torch.testing.assert_close(soft, total(hard, known))
    assert total(torch.zeros(6, 7, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)) == 0


def test_dlkd_robust_is_dlkd_with_trust():
    level = torch.rand(6)
    x = Signals(STUDENT, TEACHER, TARGET, level)
    robust, trusting = make_method("dlkd-robust"), make_method("dlkd", label=LabelOptions("trust"))
    weighted = losses.label_trust(TEACHER, TARGET, level) * losses.cross_entropy(STUDENT, TARGET)
    for method in (robust, trusting):
        parts = method.parts(x)
        torch.testing.assert_close(parts.label, weighted)
        torch.testing.assert_close(parts.distillation, make_method("dlkd").parts(x).distillation)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("kd", LabelOptions("gce", q=0.0), "q to be in"),
        ("kd", LabelOptions("smoothing", smoothing=1.0), "smoothing"),
        ("kd", LabelOptions("elr", momentum=1.0), "momentum"),
        ("ce", LabelOptions("trust"), "a teacher for the label term trust"),
        ("dlkd-robust", LabelOptions("ce"), "one of its own"),
        ("kd", LabelOptions("gce", smoothing=0.2), "term smoothing with label.smoothing"),
        ("kd", LabelOptions("sce", alpha=-1.0), "alpha and beta"),
    ],
)
def test_bad_values(method, options, message):
    with pytest.raises(UserError, match=message):
        make_method(method, classes=7, samples=6, label=options)


def test_through_the_command_line(tmp_path, good, distill, dlkd):
    options = ("--label.term", "elr", "--method", "kd", "--data.noise", 0.3, "--force")
    good(*distill(tmp_path / "elr", *options))
    state = load_checkpoint(tmp_path / "elr").state["method"]
    assert state["label.memory"].shape == (270, 10) and state["label.memory"].sum(dim=1).max() < 0.2
    good(*distill(tmp_path / "robust", "--method", "dlkd-robust", "--data.noise", 0.3, "--force"))
    refused = dlkd(*distill(tmp_path / "no", "--label.term", "trust", "--method", "ce"))
    assert refused.status == 2 and "label term trust" in refused.err
