"""The Distiller in a loop of one's own."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

from dlkd import Distiller, DLKDLoss, FrozenTeacher, InputFormat, prune_teacher
from dlkd.integrations import LogitsOf
from dlkd.losses import kd_loss
from dlkd.methods import LabelOptions, LossOptions, make_method

SEEN = InputFormat((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def by_hand(model, images, logits, target, sparsity=0.3, seen=None):
    """DLKDLoss with a FrozenTeacher of a copy, calibrated on these images."""
    model = copy.deepcopy(model)
    said = FrozenTeacher(model, [prune_teacher(model, sparsity)], input_format=seen)(images)
    criterion = DLKDLoss()
    criterion.calibrate(said.distance())
    return criterion(logits, said.logits, target, distance=said.distance())


@pytest.mark.parametrize("soft", [False, True])
def test_loss_and_gradient_are_those_of_dlkdloss(soft, teacher, net, data):
    images, target = data
    if soft:
        hard = torch.nn.functional.one_hot(target, 4).float()
        target = 0.3 * hard + 0.7 * hard.flip(0)
    logits = net()(images).detach().requires_grad_()
    expected = by_hand(teacher, images, logits, target, 0.5, SEEN)
    distiller = Distiller(teacher, sparsity=0.5, input_format=SEEN)
    distiller.calibrate([images[:20], images[20:]])
    found = distiller(images, logits, target)
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found, logits)[0], torch.autograd.grad(expected, logits)[0])
    parts = distiller.parts(images, logits, target)
    assert parts.level.min() < 0.1 and parts.level.max() > 0.9


def test_undo_takes_the_normalisation_of_the_loop_back(teacher, net, data):
    images, target = data
    logits = net()(images).detach()
    loop = InputFormat((0.5, 0.4, 0.3), (0.1, 0.2, 0.4), resolution=8)
    distiller = Distiller(teacher, input_format=SEEN, undo=loop)
    distiller.calibrate([loop(images)])
    expected = by_hand(teacher, images, logits, target, seen=SEEN)
    assert distiller(loop(images), logits, target) == pytest.approx(expected.item(), rel=1e-4)
    assert Distiller(None, "ce", undo=InputFormat()).undo == InputFormat()


def test_three_lines_with_a_loader(teacher, net, data):
    student = net()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=12)
    distiller = Distiller(teacher)
    distiller.calibrate(loader)
    images, labels = next(iter(loader))
    distiller(images, student(images), labels).backward()
    assert all(p.grad.abs().sum() > 0 for n, p in student.named_parameters() if n != "conv.bias")
    assert int(distiller.method.level.count) == 32


@pytest.mark.parametrize(
    ("limit", "count", "read"), [(10, 10, 1), (13, 13, 2), (24, 24, 2), (None, 48, 4), (99, 48, 4)]
)
def test_limit_of_calibration(limit, count, read, teacher, data):
    seen = []

    def batches():
        for k in range(4):
            seen.append(k)
            yield data[0][:12]

    distiller = Distiller(teacher)
    distiller.calibrate(batches(), limit=limit)
    assert (int(distiller.method.level.count), len(seen)) == (count, read)


def test_hundred_steps_leave_the_teacher_as_it_was(teacher, net, data, distiller, pinned, wake, without_teacher):
    check, student = pinned(distiller), net()
    optimizer = torch.optim.SGD([*student.parameters(), *distiller.parameters(), *teacher.parameters()], lr=0.1)
    first = student.head.weight.clone()
    losses = []
    for _ in range(100):
        wake(student, distiller=distiller)
        optimizer.zero_grad()
        loss = distiller(data[0], student(data[0]), data[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    check()
    assert losses[-1] < losses[0] and not torch.equal(first, student.head.weight)
    held = nn.ModuleDict({"student": student, "distiller": distiller})
    names = without_teacher(held.state_dict(), distiller)
    assert {n for n in names if n.startswith("distiller")} == {
        f"distiller.method.temperature.level.{n}" for n in ("quantiles", "count")
    }
    assert sum(p.numel() for p in held.parameters()) == sum(p.numel() for p in student.parameters())


def test_a_loop_in_half_precision(teacher, net, data):
    images, target = data
    distiller, student = Distiller(teacher), net()
    distiller.calibrate([images])
    full = distiller(images, student(images), target)
    with torch.autocast("cpu", torch.bfloat16):
        logits = student(images)
        assert logits.dtype == torch.bfloat16
        loss = distiller(images, logits, target)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(full.item(), rel=0.02)
    # All in halves: neither the teacher nor the ranks are.
    held = nn.ModuleDict({"student": student, "distiller": distiller}).to(torch.bfloat16)
    assert {t.dtype for t in distiller.state_dict().values()} == {torch.float32, torch.int64}
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    loss = distiller(images.bfloat16(), held["student"](images.bfloat16()), target)
    assert loss.item() == pytest.approx(full.item(), rel=0.02)


def test_copies_share_the_teacher_and_nothing_else(teacher, distiller):
    copied = copy.deepcopy(nn.ModuleList([distiller]))[0]
    assert copied.teacher is distiller.teacher and copied.teacher.models[0] is teacher
    copied.method.level.count.zero_()
    assert distiller.method.level.calibrated and not copied.method.level.calibrated


def test_state_comes_back_and_a_saved_module_still_works(teacher, net, data, distiller):
    images, target = data
    logits = net()(images).detach()
    expected = distiller(images, logits, target)
    other = Distiller(copy.deepcopy(teacher))
    other.load_state_dict(distiller.state_dict())
    assert torch.equal(other(images, logits, target), expected)
    file = io.BytesIO()
    torch.save(distiller, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images, logits, target), expected)


class Placed(FrozenTeacher):
    """Notes where it is sent."""

    def to(self, device):
        self.sent = device
        return super().to(device)


def test_whatever_moves_the_module_moves_the_teacher(teacher):
    frozen = Placed(teacher, [prune_teacher(teacher)])
    outer = nn.ModuleList([Distiller(frozen)])
    outer.to("cpu")
    assert frozen.sent == torch.device("cpu")
    del frozen.sent
    outer.to("meta")  # a place without values: the teacher would be lost
    assert not hasattr(frozen, "sent") and frozen.device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_teacher_follows_the_images(teacher, net, data, distiller):
    images, target = data
    logits = net()(images).detach()
    expected = distiller(images, logits, target)
    found = distiller(images.cuda(), logits.cuda(), target.cuda())
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    assert distiller.teacher.device.type == "cuda" and distiller.method.level.quantiles.is_cuda
    distiller.calibrate([images])  # from the CPU, as a loader gives them
    assert distiller.teacher.device.type == "cuda"


def test_a_learned_temperature_is_a_parameter(teacher, net, data):
    distiller, student = Distiller(teacher, "ctkd", loss=LossOptions(ramp_epochs=1)), net()
    assert len(distiller.teacher.models) == 1  # no probe where none is asked for
    distiller.calibrate([data[0]])  # nothing to do
    distiller.start_epoch(0)
    (theta,) = distiller.parameters()
    distiller(data[0], student(data[0]), data[1]).backward()
    assert theta.grad.abs().sum() > 0
    assert list(distiller.state_dict()) == ["method.temperature.theta"]
    one_each = Distiller(teacher, "ctkd", loss=LossOptions(per_instance=True), classes=4)
    one_each(data[0], student(data[0]), data[1]).backward()
    assert all(p.grad is not None for p in one_each.parameters())


def test_a_composition_of_ones_own(teacher, net, data):
    images, target = data
    logits = net()(images).detach()
    kd = make_method("kd", LossOptions(temperature=3.0, ce_weight=0.0, kd_weight=1.0))
    said = teacher.eval()(images)
    assert Distiller(teacher, kd)(images, logits, target) == pytest.approx(
        kd_loss(logits, said, temperature=3.0).item()
    )


@pytest.mark.parametrize("name", ["dkd", "dist", "r2kd", "energy", "dlkd+dkd+zscore"])
def test_other_methods_learn(name, teacher, net, data):
    distiller, student = Distiller(teacher, name), net()
    distiller.calibrate([data])
    distiller.start_epoch(30)
    distiller(data[0], student(data[0]), data[1]).backward()
    assert student.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("score", ["js", "entropy", "cross_entropy"])
def test_other_scores_of_difficulty(score, teacher, net, data):
    images, target = data
    distiller = Distiller(teacher, loss=LossOptions(score=score))
    assert len(distiller.teacher.models) == (2 if score == "js" else 1)
    distiller.calibrate([data])
    level = distiller.parts(images, net()(images), target).level
    expected = distiller.teacher(images).difficulty(distiller.method.score, target).argsort().argsort()
    assert torch.equal(level.argsort().argsort(), expected)


def test_two_views(teacher, net, data):
    images, target = data
    distiller, logits = Distiller(teacher, "mlkd", loss=LossOptions(variant="code")), net()(images)
    weak, strong = (distiller.parts(images, logits, target, strong=s).total for s in (False, True))
    assert weak != strong


def test_images_without_labels(teacher, net, data, distiller):
    images, target = data
    logits = net()(images)
    labelled = (torch.arange(32) < 20).float()
    parts = distiller.parts(images, logits, torch.where(labelled > 0, target, -1), labelled=labelled)
    whole = distiller.parts(images, logits, target)
    assert torch.equal(parts.distillation, whole.distillation)
    expected = 0.1 * whole.label[:20].mean() + 0.9 * whole.distillation.mean()
    assert parts.total.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("term", ["gce", "elr"])
def test_other_label_terms(term, teacher, net, data):
    images, target = data
    method = make_method("dlkd", label=LabelOptions(term=term), samples=40, classes=4)
    distiller, logits = Distiller(teacher, method), net()(images)
    distiller.calibrate([images])
    found = distiller.parts(images, logits, target, positions=torch.arange(32))
    assert not torch.allclose(found.label, nn.functional.cross_entropy(logits, target, reduction="none"))
    if term == "elr":
        assert distiller.state_dict()["method.label.memory"][:32].all()
        with pytest.raises(ValueError, match="expected the positions of the samples"):
            distiller(images, logits, target)


def test_without_a_teacher(teacher, net, data):
    images, target = data
    logits = net()(images)
    expected = nn.functional.cross_entropy(logits, target).item()
    for who in (None, teacher):
        distiller = Distiller(who, "ce")
        distiller.calibrate([images])
        parts = distiller.parts(images, logits, target)
        assert parts.total.item() == pytest.approx(expected, rel=1e-6) and parts.distillation is None


def test_without_calibration_it_ranks_in_the_batch_and_says_so(teacher, net, data):
    distiller = Distiller(teacher)
    with pytest.warns(UserWarning, match="call calibrate"):
        distiller(data[0], net()(data[0]), data[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller(data[0], net()(data[0]), data[1])


def test_outputs_with_logits(teacher, net, data, with_logits):
    images, _ = data
    model = net(kind=with_logits).eval()
    assert torch.equal(LogitsOf(model)(images), model(images)["logits"])
    assert torch.equal(LogitsOf(teacher.eval())(images), teacher(images))
    with pytest.raises(ValueError, match="expected Identity to return logits, or an object with logits, but got list"):
        LogitsOf(nn.Identity())([1])


def test_a_label_term_for_wrong_labels(teacher, net, data):
    images, target = data
    logits = net()(images).detach()
    plain, robust = (Distiller(copy.deepcopy(teacher), "kd", label=label) for label in (None, LabelOptions("gce")))
    parts = robust.parts(images, logits, target)
    assert torch.equal(parts.distillation, plain.parts(images, logits, target).distillation)
    p = torch.softmax(logits, 1).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(parts.label, (1 - p**0.7) / 0.7)
    with pytest.raises(ValueError, match="name of a method only"):
        Distiller(copy.deepcopy(teacher), make_method("kd"), label=LabelOptions("gce"))
