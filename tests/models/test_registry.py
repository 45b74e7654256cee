"""Names of models: who is meant, what is built, and one clear line for everything else."""

import sys

import pytest
import torch
from torch import nn

from dlkd.models import CifarResNet, InputFormat, build_model, default_input_format

FACTORIES = """
from torch import nn

class Plain(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(4, num_classes)

def channels(num_classes, channels=3): return nn.Conv2d(channels, num_classes, 1)
def in_chans(*, num_classes, in_chans): return nn.Conv2d(in_chans, num_classes, 1)
def anything(**options): return Plain(**options)
def raises(num_classes): raise RuntimeError("no\\nsuch luck")
def no_module(num_classes): return [num_classes]
NUMBER = 3
"""


@pytest.fixture
def factories(tmp_path, own_module):
    """The name of an importable module of factories."""
    name = f"factories_{tmp_path.name}".replace("-", "_")
    own_module(name, FACTORIES)
    own_module(f"{name}_broken", "import not_there_at_all")
    return name


def refusal(name, **options):
    with pytest.raises(ValueError) as error:
        build_model(name, 5, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_ours_win_and_are_built_for_the_data():
    model = build_model("resnet20", 7, channels=1)
    assert isinstance(model, CifarResNet)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_narrowest_student_has_no_layer_below_eight():
    model = build_model("resnet8x0.5", 4)
    assert min(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)) == 8


@pytest.mark.parametrize("name", ["test_resnet", "timm:test_resnet", "timm:test_vit"])
def test_timm(name):
    pytest.importorskip("timm")
    model = build_model(name, 7, channels=2)
    assert model.eval()(torch.zeros(1, 2, 160, 160)).shape == (1, 7)


def test_torchvision():
    model = build_model("torchvision:squeezenet1_1", 7).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert "expected 3 channels" in refusal("torchvision:squeezenet1_1", channels=1)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet-20", "resnet20"),
        ("timm:test_resnett", "test_resnet"),
        ("timm:resnet20", "resnet20"),
        ("torchvision:squeezenet", "torchvision:squeezenet1_"),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision:"),  # No classifier.
        ("timm:hf-hub:someone/something", ""),  # Nothing is fetched by building.
    ],
)
def test_unknown_names_the_nearest(name, near):
    pytest.importorskip("timm")
    message = refusal(name)
    assert repr(name) in message and f"did you mean '{near}" in message


def test_unknown_tag_of_timm():
    pytest.importorskip("timm")
    assert "tag" in refusal("timm:test_resnet.no_such_tag")


def test_without_timm_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # As Python itself marks a module that cannot be imported.
    assert "pip install 'dlkd[timm]'" in refusal("timm:test_resnet")
    assert "pip install 'dlkd[timm]'" in refusal("some_model")
    assert isinstance(build_model("resnet8", 3), CifarResNet)


@pytest.mark.parametrize(("factory", "inputs"), [("channels", 2), ("in_chans", 2)])
def test_factory_gets_the_channels_its_signature_names(factories, factory, inputs):
    assert build_model(f"{factories}:{factory}", 5, channels=2).weight.shape == (5, inputs, 1, 1)


@pytest.mark.parametrize("factory", ["Plain", "anything"])
def test_factory_without_channels_is_not_given_them(factories, factory):
    assert build_model(f"{factories}:{factory}", 5, channels=2).fc.out_features == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.models:net", "expected a Python module 'no_such_package.models'"),
        ("{}.deeper:net", "expected a Python module|raised ModuleNotFoundError"),
        ("{}_broken:net", "raised ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("{}:missing", "expected 'missing' in .* but it has no such name"),
        ("{}:", "has no such name"),
        (":net", "raised ValueError"),
        ("{}:NUMBER", "it is int"),
        ("{}:raises", r"raises\(num_classes=5\) raised RuntimeError: no$"),
        ("{}:no_module", "return a torch.nn.Module, but got list"),
    ],
)
def test_factory_failures(factories, name, message):
    name = name.format(factories)
    with pytest.raises(ValueError, match=message):
        build_model(name, 5)
    refusal(name)


def test_refuses_no_classes():
    with pytest.raises(ValueError, match="at least 1 class"):
        build_model("resnet8", 0)


def test_default_formats(factories):
    cifar100 = InputFormat((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))
    cifar10 = InputFormat((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert default_input_format("resnet20", 100, 3) == cifar100
    assert default_input_format("resnet20", 10, 3) == cifar10
    assert default_input_format("resnet20", 11, 3) == InputFormat()
    assert default_input_format("resnet20", 10, 1) == InputFormat()
    assert default_input_format(f"{factories}:Plain", 10, 3) == InputFormat()
    imagenet = InputFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
    assert default_input_format("torchvision:resnet18", 5, 3) == imagenet
    assert default_input_format("torchvision:efficientnet_b3", 5, 3).resolution == 300


def test_default_formats_of_timm():
    pytest.importorskip("timm")
    assert default_input_format("test_resnet", 5, 3) == InputFormat((0.5,) * 3, (0.5,) * 3, 160)
    grey = default_input_format("timm:resnet18", 5, 1)
    assert grey.mean == pytest.approx((0.449,)) and grey.std == pytest.approx((0.226,)) and grey.resolution == 224
