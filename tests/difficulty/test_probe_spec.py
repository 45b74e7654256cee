"""ProbeSpec: names, what make() does, and the mean over named columns."""

import pytest
import torch
from torch import nn

from dlkd.difficulty import ProbeSpec, column_name, mean_distance, prune_teacher, recalibrate_norms
from dlkd.models import cifar_resnet


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (ProbeSpec(), "global-0.3"),
        (ProbeSpec(0.1, "layer"), "layer-0.1"),
        (ProbeSpec(criterion="random", seed=7), "global-0.3-random7"),
        (ProbeSpec(seed=7), "global-0.3"),
        (ProbeSpec(0.1, "layer", norm="batch"), "layer-0.1-bn.batch"),
        (ProbeSpec(0.5, criterion="random", norm="recalibrated"), "global-0.5-random0-bn.recalibrated"),
    ],
)
def test_name(spec, name):
    assert spec.name == name


def test_make_equals_its_parts():
    torch.manual_seed(0)
    teacher, x = cifar_resnet("resnet8", 10).eval(), torch.rand(8, 3, 32, 32)
    assert torch.equal(ProbeSpec(0.4, "layer").make(teacher)(x), prune_teacher(teacher, 0.4, "layer")(x))
    by_hand = prune_teacher(teacher, 0.3, criterion="random", seed=3)
    assert torch.equal(ProbeSpec(criterion="random", seed=3).make(teacher)(x), by_hand(x))
    recalibrate_norms(by_hand, [x])
    spec = ProbeSpec(criterion="random", seed=3, norm="recalibrated")
    assert torch.equal(spec.make(teacher, [x])(x), by_hand(x))
    assert ProbeSpec(norm="batch").make(teacher).bn1.running_mean is None
    assert teacher.bn1.running_mean is not None


def test_spec_errors():
    with pytest.raises(ValueError, match=r"make the probe global-0\.3-bn\.recalibrated"):
        ProbeSpec(norm="recalibrated").make(cifar_resnet("resnet8", 10))
    with pytest.raises(ValueError, match=r"expected norm to be one of .* but got 'train'"):
        ProbeSpec(norm="train")
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        ProbeSpec(1.5).make(nn.Linear(2, 2))


def test_column_name():
    assert column_name(ProbeSpec().name, 1.0) == "global-0.3/l2/tau1"
    assert column_name("layer-0.1", 0.5) == "layer-0.1/l2/tau0.5"


def test_mean_distance():
    columns = {
        "a/l2/tau1": torch.tensor([0.0, 1.0]),
        "b/l2/tau1": torch.tensor([0.5, 0.5]),
        "c/l2/tau1": torch.tensor([1.0, 0.0], dtype=torch.float16),
    }
    assert mean_distance(columns, ["a/l2/tau1", "b/l2/tau1"]).tolist() == [0.25, 0.75]
    half = mean_distance(columns, ["c/l2/tau1"])
    assert half.tolist() == [1.0, 0.0] and half.dtype == torch.float32


def test_mean_distance_errors():
    columns = {"global-0.3/l2/tau1": torch.zeros(2), "layer-0.1/l2/tau1": torch.zeros(2), "wrong": torch.zeros(3)}
    with pytest.raises(ValueError) as error:
        mean_distance(columns, ["layer-0.1/l2/tau1", "global-0.3/l2/tau2"])
    message = str(error.value)
    assert "named global-0.3/l2/tau2, but got only global-0.3/l2/tau1, layer-0.1/l2/tau1, wrong" in message
    assert message.endswith("did you mean 'global-0.3/l2/tau1' for 'global-0.3/l2/tau2'?")
    with pytest.raises(ValueError, match="none at all"):
        mean_distance({}, ["a"])
    with pytest.raises(ValueError, match="at least one"):
        mean_distance(columns, [])
    with pytest.raises(ValueError, match="one shape"):
        mean_distance(columns, ["layer-0.1/l2/tau1", "wrong"])
