"""Statistics of the probe's normalisation: the batch's, without a trace; new ones, by plain average."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkd.difficulty import prune_teacher, recalibrate_norms, use_batch_statistics
from dlkd.models import cifar_resnet


def norms(model):
    return [m for m in model.modules() if isinstance(m, _BatchNorm)]


def cifar():
    torch.manual_seed(0)
    return cifar_resnet("resnet8", 10).eval(), torch.rand(8, 3, 32, 32)


def mobilenet():
    torch.manual_seed(0)
    return timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=5).eval(), torch.rand(8, 3, 64, 64)


def shift_statistics(model):
    for m in norms(model):
        m.running_mean.uniform_(-1, 1)
        m.running_var.uniform_(0.5, 2)
        m.num_batches_tracked.fill_(100)  # a trained one's: an average that goes on from here would hardly move


@pytest.mark.parametrize("make", [cifar, mobilenet])
def test_batch_statistics_equal_train_mode_but_stay_in_eval(make):
    model, x = make()
    shift_statistics(model)
    probe = prune_teacher(model, 0.0)
    assert use_batch_statistics(probe) == len(norms(model)) > 0
    kept = {k: v.clone() for k, v in probe.state_dict().items()}
    first, second = probe(x), probe(x)
    teacher = {k: v.clone() for k, v in model.state_dict().items()}
    for m in norms(model):
        m.training = True  # the reference, which moves its buffers
    torch.testing.assert_close(first, model(x))
    assert torch.equal(first, second) and not any(m.training for m in probe.modules())
    assert all(torch.equal(kept[k], v) for k, v in probe.state_dict().items())
    assert "bn1.running_mean" in teacher and "bn1.running_mean" not in kept
    assert not torch.equal(teacher["bn1.running_mean"], model.bn1.running_mean)
    assert use_batch_statistics(probe) == 0


@pytest.mark.parametrize("make", [cifar, mobilenet])
def test_recalibration_of_the_first_layer_in_closed_form(make):
    model, _ = make()
    stem = model.conv1 if hasattr(model, "conv1") else model.conv_stem
    shift_statistics(model)
    batches = [torch.rand(8, 3, 32, 32) * k for k in (1, 2, 4)]
    momenta = [m.momentum for m in norms(model)]
    assert recalibrate_norms(model, iter(batches)) == len(momenta)
    maps = stem(torch.cat(batches)).detach()
    # Equal batches: the mean is that of all data; the variance is the average of the batches' own.
    torch.testing.assert_close(model.bn1.running_mean, maps.mean(dim=(0, 2, 3)))
    own = torch.stack([part.var(dim=(0, 2, 3)) for part in maps.split(8)]).mean(dim=0)
    torch.testing.assert_close(model.bn1.running_var, own)
    assert [m.momentum for m in norms(model)] == momenta
    assert not any(m.training for m in model.modules())


def test_recalibrated_on_one_batch_it_gives_the_outputs_of_batch_statistics():
    model, x = cifar()
    shift_statistics(model)
    batchwise = prune_teacher(model, 0.5)
    recalibrated = prune_teacher(model, 0.5)
    use_batch_statistics(batchwise)
    before = (recalibrated(x) - batchwise(x)).abs().max()
    recalibrate_norms(recalibrated, [x])
    # Not equal: running variances are unbiased, n/(n − 1) of the batch's.
    after = (recalibrated(x) - batchwise(x)).abs().max()
    assert after < 0.02 * before


def test_dropout_stays_off_and_no_gradient_is_kept():
    seen = []

    class Layer(nn.BatchNorm1d):  # as timm's: a dropout inside the norm
        def __init__(self):
            super().__init__(4)
            self.drop = nn.Dropout(0.9)

        def forward(self, x):
            out = self.drop(super().forward(x))
            seen.append((out, (out == 0).any().item()))
            return out

    model = nn.Sequential(nn.Linear(4, 4), Layer(), nn.Dropout(0.9)).train()
    assert recalibrate_norms(model, [torch.rand(16, 4)]) == 1
    assert not seen[0][1] and not seen[0][0].requires_grad
    assert not any(m.training for m in model.modules())


def test_no_layers_and_no_batches():
    assert recalibrate_norms(nn.Linear(2, 2), []) == 0
    assert use_batch_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))) == 0
    model, _ = cifar()
    shift_statistics(model)
    mean = model.bn1.running_mean.clone()
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_norms(model, iter([]))
    assert torch.equal(model.bn1.running_mean, mean)


def test_everything_is_put_back_when_a_batch_does_not_fit():
    model, x = cifar()
    with pytest.raises(RuntimeError):
        recalibrate_norms(model, [x, x[:, :2]])
    assert all(m.momentum == 0.1 for m in norms(model)) and not any(m.training for m in model.modules())
