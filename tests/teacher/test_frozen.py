"""FrozenTeacher: never trained, never woken, never in a checkpoint."""

import pytest
import torch
from torch import nn

from dlkd import FrozenTeacher, kd_loss, probe_distance, prune_teacher
from dlkd.difficulty import DifficultyScore, ProbeSpec, mean_distance
from dlkd.models import InputFormat, cifar_resnet


def teacher_and_images():
    torch.manual_seed(0)
    model = cifar_resnet("resnet8", 10)
    # Statistics and scales that are not those of a fresh model, or batch norm would hide what is wrong.
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return model, torch.rand(4, 3, 32, 32)


class Spy(nn.Module):
    """Notes what it is shown, and in which precision and memory format."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x.mean(dim=(2, 3))


class Noisy(nn.Module):
    """Dropout and batch norm: both move as soon as somebody wakes them."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.drop(self.norm(x).mean(dim=(2, 3))))


def test_eval_is_pinned_and_buffers_do_not_move():
    model, x = teacher_and_images()
    frozen = FrozenTeacher(model, [prune_teacher(model, 0.3)])
    first = frozen(x)
    buffers = [{k: v.clone() for k, v in m.state_dict().items()} for m in frozen.models]
    for woken in frozen.models:
        woken.train()
    second = frozen(x)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.probe_logits[0], second.probe_logits[0])
    for model, before in zip(frozen.models, buffers, strict=True):
        assert not any(m.training for m in model.modules())
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_single_layer_that_was_woken_is_put_to_sleep():
    torch.manual_seed(0)
    model = Noisy()
    frozen, x = FrozenTeacher(model), torch.rand(5, 3, 4, 4)
    first = frozen(x).logits
    model.drop.training = model.norm.training = True
    assert not model.training
    assert torch.equal(frozen(x).logits, first)
    assert int(model.norm.num_batches_tracked) == 0


def test_outside_the_module_tree_and_frozen():
    model, x = teacher_and_images()
    student = nn.Linear(2, 2)
    student.teacher = FrozenTeacher(model, {"probe": prune_teacher(model, 0.3)})
    assert list(student.state_dict()) == ["weight", "bias"]
    assert len(list(student.modules())) == 1 and len(list(student.parameters())) == 2
    student.train()
    assert not model.training and not isinstance(student.teacher, nn.Module)
    assert not any(p.requires_grad for m in student.teacher.models for p in m.parameters())
    assert not student.teacher(x).logits.requires_grad


def test_output_can_be_a_target():
    model, x = teacher_and_images()
    out = FrozenTeacher(model, [prune_teacher(model, 0.5)])(x)
    for logits in (out.logits, *out.probe_logits):
        assert not logits.is_inference()
        w = torch.ones_like(logits, requires_grad=True)
        (w * logits).sum().backward()
        assert torch.equal(w.grad, logits)
    student = torch.randn_like(out.logits).requires_grad_()
    kd_loss(student, out.logits, temperature=2.0).backward()
    assert student.grad.isfinite().all()
    out.logits.add_(1)  # a copy of its own, too


def test_outputs_are_not_what_the_model_keeps():
    class Keeper(nn.Module):
        def forward(self, x):
            self.last = x.mean(dim=(2, 3))
            return self.last

    model = Keeper()
    logits = FrozenTeacher(model)(torch.rand(2, 3, 4, 4)).logits
    before = model.last.clone()
    logits.zero_()
    assert torch.equal(model.last, before) and before.abs().sum() > 0


def test_own_normalisation_and_resolution():
    spy = Spy()
    seen_by_teacher = InputFormat(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), resolution=8)
    out = FrozenTeacher(spy, [spy], input_format=seen_by_teacher)(torch.full((1, 3, 4, 4), 0.6))
    assert [x.shape for x in spy.seen] == [(1, 3, 8, 8)] * 2
    torch.testing.assert_close(spy.seen[0][0, :, 0, 0], torch.tensor([1.0, 0.8, 0.6]))
    torch.testing.assert_close(out.probe_logits[0], out.logits)


def test_without_an_input_format_images_are_as_they_are():
    spy, x = Spy(), torch.rand(2, 3, 5, 7)
    FrozenTeacher(spy)(x)
    assert torch.equal(spy.seen[0], x)


def test_named_probes_and_columns():
    model, x = teacher_and_images()
    specs = [ProbeSpec(0.3), ProbeSpec(0.6, "layer")]
    out = FrozenTeacher(model, {s.name: s.make(model) for s in specs})(x)
    assert out.probe_names == ("global-0.3", "layer-0.6")
    both = out.columns([DifficultyScore("distance", 2.0), DifficultyScore("js", 2.0)])
    assert list(both)[:2] == ["global-0.3/l2/tau2", "global-0.3/js/tau2"] and len(both) == 4
    torch.testing.assert_close(
        out.difficulty(DifficultyScore("js", 2.0)), (both["global-0.3/js/tau2"] + both["layer-0.6/js/tau2"]) / 2
    )
    assert torch.equal(out.mean_probe_logits(), torch.stack(out.probe_logits).mean(0))
    columns = out.columns([DifficultyScore("distance", 2.0)])
    assert list(columns) == ["global-0.3/l2/tau2", "layer-0.6/l2/tau2"]
    for column, probe in zip(columns.values(), out.probe_logits, strict=True):
        assert column.dtype == torch.float32 and column.shape == (4,)
        assert torch.equal(column, probe_distance(out.logits, probe, temperature=2.0))
    assert not torch.equal(*columns.values())
    torch.testing.assert_close(mean_distance(columns, list(columns)), out.distance(2.0))
    assert FrozenTeacher(model)(x).columns() == {}


def test_probes_without_names_are_numbered():
    model, x = teacher_and_images()
    out = FrozenTeacher(model, [prune_teacher(model, s) for s in (0.0, 0.5)])(x)
    assert list(out.columns()) == ["probe0/l2/tau1", "probe1/l2/tau1"]
    assert out.columns()["probe0/l2/tau1"].abs().max() == 0 < out.columns()["probe1/l2/tau1"].min()


def test_distance_is_the_mean_over_probes():
    model, x = teacher_and_images()
    out = FrozenTeacher(model, [prune_teacher(model, s) for s in (0.0, 0.6)])(x)
    single = FrozenTeacher(model, [prune_teacher(model, 0.6)])(x)
    torch.testing.assert_close(out.distance(), single.distance() / 2)
    with pytest.raises(ValueError, match="probe"):
        FrozenTeacher(model)(x).distance()


def test_channels_last_is_the_same_function():
    model, x = teacher_and_images()
    plain = FrozenTeacher(model)(x).logits
    fast = FrozenTeacher(model, [prune_teacher(model, 0.0)], channels_last=True)
    assert all(m.conv1.weight.is_contiguous(memory_format=torch.channels_last) for m in fast.models)
    torch.testing.assert_close(fast(x).logits, plain, rtol=1e-4, atol=1e-5)
    spy = Spy()
    FrozenTeacher(spy, channels_last=True)(x)
    assert spy.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_half_precision_inside_fp32_outside():
    model, x = teacher_and_images()
    plain = FrozenTeacher(model, [prune_teacher(model, 0.3)])(x)
    half = FrozenTeacher(model, [prune_teacher(model, 0.3)], autocast=torch.bfloat16)(x)
    for a, b in ((half.logits, plain.logits), (half.probe_logits[0], plain.probe_logits[0])):
        assert a.dtype == torch.float32
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0, atol=0.03 * (1 + b.abs().max().item()))


def test_the_callers_autocast_changes_nothing():
    model, x = teacher_and_images()
    frozen = FrozenTeacher(model, [prune_teacher(model, 0.3)])
    plain = frozen(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.Linear(2, 2)(torch.rand(1, 2)).dtype == torch.bfloat16
        cast = frozen(x)
    assert torch.equal(cast.logits, plain.logits) and torch.equal(cast.probe_logits[0], plain.probe_logits[0])


def test_double_stays_double():
    model, x = teacher_and_images()
    assert FrozenTeacher(model.double())(x.double()).logits.dtype == torch.float64


def test_to_moves_all_models_and_returns_itself():
    model, _ = teacher_and_images()
    frozen = FrozenTeacher(model, [prune_teacher(model, 0.3)])
    assert frozen.to("meta") is frozen
    assert all(p.device.type == "meta" for m in frozen.models for p in m.parameters())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda x: {"logits": x.mean(dim=(2, 3))}, "dict"),
        (lambda x: (x.mean(dim=(2, 3)),), "tuple"),
        (lambda x: x, r"\[4, 3, 32, 32\]"),
        (lambda x: x.mean(dim=(0, 2, 3)), r"\[3\]"),
        (lambda x: x[:2].mean(dim=(2, 3)), r"\[2, 3\]"),
    ],
)
def test_what_is_no_logits_is_refused(answer, found):
    class Other(nn.Module):
        def forward(self, x):
            return answer(x)

    with pytest.raises(ValueError, match=rf"return logits \[4, classes\], but got {found}"):
        FrozenTeacher(Other())(torch.rand(4, 3, 32, 32))
