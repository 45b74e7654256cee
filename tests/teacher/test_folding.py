"""fold_batch_norms: the same function afterwards, or nothing changed at all."""

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from dlkd.difficulty import prune_teacher, use_batch_statistics
from dlkd.models import cifar_resnet
from dlkd.teacher import FrozenTeacher, fold_batch_norms


def assert_untouched(model, original, note, result):
    """Same modules, same parameter objects, same outputs."""
    assert result.folded == 0 and result.note.startswith("left unfolded") and note in result.note
    assert list(model.modules()) == original[0] and list(map(id, model.parameters())) == original[1]


def identity_of(model):
    return list(model.modules()), list(map(id, model.parameters()))


def norms(model):
    return [m for m in model.modules() if isinstance(m, _BatchNorm)]


def test_cifar_resnet_of_a_probe(as_if_trained):
    torch.manual_seed(0)
    x, other = torch.randn(2, 3, 32, 32), torch.randn(4, 3, 32, 32)
    model = prune_teacher(as_if_trained(cifar_resnet("resnet8", 10)), 0.3)
    expected, total = model(other), len(norms(model))
    result = fold_batch_norms(model, x)
    assert result == (total, total, f"folded {total} of {total} batch norms") and not norms(model)
    torch.testing.assert_close(model(other), expected, rtol=1e-4, atol=1e-4)
    assert not any(m.training for m in model.modules()) and not any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(FrozenTeacher(model)(other).logits, expected, rtol=1e-4, atol=1e-4)
    assert fold_batch_norms(model, x) == (0, 0, "no batch norms")


def test_closed_form_of_one_pair():
    model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1, eps=0.5)).eval()
    with torch.no_grad():
        for tensor, value in [(model[0].weight, 3.0), (model[0].bias, 1.0), (model[1].weight, 4.0)]:
            tensor.fill_(value)
        model[1].bias.fill_(0.25)
        model[1].running_mean.fill_(2.0)
        model[1].running_var.fill_(3.5)
    assert fold_batch_norms(model, torch.randn(2, 1, 3)).folded == 1
    # γ/√(σ² + ε) = 4/√4 = 2: w' = 3·2, b' = (1 − 2)·2 + 0.25.
    assert model[0].weight.item() == pytest.approx(6) and model[0].bias.item() == pytest.approx(-1.75)
    assert isinstance(model[1], nn.Identity)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_timm_norms_keep_their_activation(name, as_if_trained):
    torch.manual_seed(0)
    model = as_if_trained(timm.create_model(name, pretrained=False, num_classes=7))
    x, other = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    expected, total = model(other), len(norms(model))
    result = fold_batch_norms(model, x)
    assert (result.folded, result.total) == (total, total) and not norms(model)
    torch.testing.assert_close(model(other), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert not any(m.training for m in model.modules())


def test_norm_with_dropout_inside(as_if_trained):
    norm = BatchNormAct2d(3, drop_layer=nn.Dropout, act_layer=nn.SiLU)
    model = as_if_trained(nn.Sequential(nn.Conv2d(3, 3, 1), norm))
    x = torch.randn(2, 3, 4, 4)
    expected = model(x)
    fold_batch_norms(model, x)
    assert [type(m) for m in model[1]] == [nn.Dropout, nn.SiLU]
    torch.testing.assert_close(model(x), expected)


class PreActivation(nn.Module):
    """norm → relu → conv, twice: the second norm follows a convolution, the first does not."""

    def __init__(self, skip):
        super().__init__()
        self.skip = skip
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        out = self.conv2(torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x))))))
        return (out + x if self.skip else out).mean(dim=(2, 3))


def test_pre_activation_with_a_skip_is_left_as_it_was(as_if_trained):
    torch.manual_seed(0)
    model, x = as_if_trained(PreActivation(skip=True)), torch.randn(2, 3, 8, 8)
    expected, original = model(x), identity_of(model)
    assert_untouched(model, original, "an output moved by", fold_batch_norms(model, x))
    assert torch.equal(model(x), expected)


def test_pre_activation_without_a_skip_is_folded(as_if_trained):
    torch.manual_seed(0)
    model, x = as_if_trained(PreActivation(skip=False)), torch.randn(2, 3, 8, 8)
    expected = model(x)
    assert fold_batch_norms(model, x).note == "folded 2 of 2 batch norms"
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


class Wrapped(nn.Module):
    """Its convolution is one layer further in than its norm."""

    def __init__(self):
        super().__init__()
        self.inner, self.bn = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.inner(x))


@pytest.mark.parametrize(
    ("heard", "folded"), [("", 2), ("0", 2), ("0.inner", 1), ("0.inner.0", 1), ("0.bn", 2), ("1", 1), ("2", 2)]
)
def test_what_is_heard_stays(heard, folded, as_if_trained):
    """A convolution that is listened to, itself or through a layer around it, would return what its norm did."""
    torch.manual_seed(0)
    model = as_if_trained(nn.Sequential(Wrapped(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))
    x, layer = torch.randn(2, 3, 4, 4), model.get_submodule(heard)
    returned = []
    layer.register_forward_hook(lambda module, inputs, output: returned.append(output.clone()))
    model(x)
    expected = returned.pop()
    assert fold_batch_norms(model, x, [layer]).folded == folded
    after = model.get_submodule(heard)  # of a norm that is gone, what stands in its place
    if after is not layer:
        after.register_forward_hook(lambda module, inputs, output: returned.append(output.clone()))
    returned.clear()
    model(x)
    torch.testing.assert_close(returned[0], expected)


class Toy(nn.Module):
    """One convolution, two norms and a forward of choice."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def twice_by_layers(m, x):
    y = m.conv(x)
    return m.bn(y) + m.other(y)


def conv_called_twice(m, x):
    return m.bn(m.conv(x)) + m.conv(x)


def norm_called_twice(m, x):
    return m.bn(m.conv(x)) + m.bn(x)


def in_place_between(m, x):
    return m.bn(torch.relu_(m.conv(x)))


@pytest.mark.parametrize("forward", [twice_by_layers, conv_called_twice, norm_called_twice, in_place_between])
def test_pairs_that_are_none(forward, as_if_trained):
    torch.manual_seed(0)
    model, x = as_if_trained(Toy(forward)), torch.randn(2, 3, 4, 4)
    original = identity_of(model)
    assert_untouched(model, original, "none of 2 batch norms", fold_batch_norms(model, x))


def test_forward_that_reads_its_norm(as_if_trained):
    model, x = as_if_trained(Toy(lambda m, x: m.bn(m.conv(x)) * m.bn.weight.sum())), torch.randn(2, 3, 4, 4)
    original = identity_of(model)
    assert_untouched(model, original, "AttributeError", fold_batch_norms(model, x))


def test_one_of_two_follows_a_convolution_and_a_dict_is_returned(as_if_trained):
    model = as_if_trained(Toy(lambda m, x: {"a": [m.bn(m.conv(x))], "b": (m.other(x), 3)}))
    x = torch.randn(2, 3, 4, 4)
    expected = model(x)
    assert fold_batch_norms(model, x).note == "folded 1 of 2 batch norms"
    torch.testing.assert_close(model(x)["a"][0], expected["a"][0])
    assert isinstance(model.bn, nn.Identity) and isinstance(model.other, nn.BatchNorm2d)


def test_tied_and_parametrised_weights_are_skipped(as_if_trained):
    torch.manual_seed(0)
    tied = nn.Sequential(*(m for _ in range(2) for m in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))
    tied[2].weight = tied[0].weight
    normed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))
    for model in (tied, normed):
        as_if_trained(model)
        original = identity_of(model)
        assert_untouched(model, original, "none of", fold_batch_norms(model, torch.randn(2, 3, 4, 4)))
    assert tied[0].weight is tied[2].weight


def test_one_norm_in_two_places_and_parameters_shared_with_another_model(as_if_trained):
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)
    model, x = as_if_trained(nn.ModuleDict({"body": nn.Sequential(conv, bn)})), torch.randn(2, 3, 4, 4)
    model.alias = bn
    model.forward = lambda x: model.body(x)
    other = copy.copy(conv)
    other._parameters = dict(conv._parameters)
    expected, alone = model(x), other(x)
    assert fold_batch_norms(model, x).folded == 1
    assert model.alias is model.body[1] and isinstance(model.alias, nn.Identity)
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(other(x), alone)


def test_norms_without_statistics_training_mode_and_inference_mode(as_if_trained):
    x = torch.randn(2, 3, 32, 32)
    model = as_if_trained(cifar_resnet("resnet8", 10))
    batchwise = prune_teacher(model, 0.0)
    use_batch_statistics(batchwise)
    assert fold_batch_norms(batchwise, x).note.startswith("left unfolded: none of 9")
    model.bn1.train()
    with pytest.raises(ValueError, match="eval mode"):
        fold_batch_norms(model, x)
    with torch.inference_mode():
        assert fold_batch_norms(model.eval(), x.clone()).note == "folded 9 of 9 batch norms"
    assert not model.conv1.bias.is_inference() and model.conv1.weight.requires_grad


def test_hooks_are_gone_when_the_example_does_not_fit(as_if_trained):
    model = as_if_trained(cifar_resnet("resnet8", 10))
    with pytest.raises(RuntimeError):
        fold_batch_norms(model, torch.randn(2, 5, 8, 8))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
