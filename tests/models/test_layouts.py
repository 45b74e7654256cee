"""Public files of the standard pairs: those that fit load as they are, the others are named in one line."""

import pytest
import torch

from dlkd.models import CheckpointError, InputFormat, build_model, default_input_format, load_model, load_weights
from dlkd.models.registry import resolve_name


@pytest.mark.parametrize("name", ["wrn16_1", "vgg8", "shufflenet_v1", "shufflenet_v2", "mobilenet_v2"])
def test_a_file_of_repdistiller_or_mdistiller(name, tmp_path):
    state = build_model(name, 20).state_dict()
    # As RepDistiller's train_teacher.py writes it, from several GPUs.
    torch.save(
        {
            "epoch": 240,
            "model": {f"module.{key}": value for key, value in state.items()},
            "accuracy": torch.tensor(70.0),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.05}]},
        },
        tmp_path / "ckpt_epoch_240.pth",
    )
    loaded = load_model(name, tmp_path / "ckpt_epoch_240.pth", 20).module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def keys_of_zoo_vgg():
    shapes = {"features.0.weight": (64, 3, 3, 3), "classifier.0.weight": (512, 512), "classifier.6.weight": (100, 512)}
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("cifar:vgg11", keys_of_zoo_vgg, "a VGG with three linear layers .torchvision, pytorch-cifar-models.*factory"),
        ("mobilenet_v2", lambda: {"features.18.0.weight": torch.zeros(1280, 320, 1, 1)}, "the one of pytorch-cifar"),
        ("shufflenet_v2", lambda: {"stage2.0.branch1.0.weight": torch.zeros(24, 1, 3, 3)}, "the one of pytorch-cifar"),
        ("resnet20", lambda: {"stage0.rbr_dense.conv.weight": torch.zeros(48, 3, 3, 3)}, "a RepVGG, .* none of ours"),
        # The prefix was forgotten.
        ("torchvision:resnet18", lambda: build_model("vgg8", 9).state_dict(), "one of vgg8, cifar:vgg11"),
        ("torchvision:resnet18", lambda: build_model("cifar:resnet18", 9).state_dict(), "one of cifar:resnet18 and"),
        ("resnet8", lambda: build_model("wrn16_1", 9).state_dict(), "one of wrn16_1 …"),
        ("resnet8", lambda: build_model("mobilenet_v2", 9).state_dict(), "which is mobilenet_v2"),
        ("resnet8", lambda: build_model("shufflenet_v2", 9).state_dict(), "which is shufflenet_v2"),
        ("resnet8", lambda: build_model("mobilenet_v1", 9).state_dict(), "which is mobilenet_v1"),
        (
            "resnet8",
            lambda: {f"student.{key}": value for key, value in build_model("resnet8", 9).state_dict().items()},
            "a whole distiller of mdistiller; give its file student_best",
        ),
    ],
)
def test_what_another_file_holds(name, state, message, tmp_path):
    torch.save({"model": state()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=f"these are weights of .*{message}|this is {message}") as error:
        load_weights(build_model(name, 9), tmp_path / "w.pth")
    assert "\n" not in str(error.value) and "missing: " in str(error.value)


def test_another_depth_is_no_other_layout(tmp_path):
    torch.save(build_model("wrn16_2", 9).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as error:
        load_weights(build_model("wrn16_1", 9), tmp_path / "w.pth")
    assert "these are weights of" not in str(error.value) and "shapes: block1.layer.0" in str(error.value)


def test_names_that_timm_has_too():
    timm = pytest.importorskip("timm")
    for name in ("resnet18", "resnet50", "vgg11", "vgg13", "vgg16", "vgg19"):
        assert timm.is_model(name)
        assert resolve_name(name).source == "timm" and resolve_name(f"cifar:{name}") == ("cifar", name)
    for name in ("resnet20", "wrn40_2", "vgg8", "shufflenet_v1", "shufflenet_v2", "mobilenet_v2", "mobilenet_v1"):
        assert not timm.is_model(name) and resolve_name(name).source in ("cifar", "imagenet")
    assert resolve_name("cifar:resnet20") == resolve_name("resnet20")


@pytest.mark.parametrize(
    ("name", "near"), [("cifar:resnet52", "cifar:resnet"), ("wrn_16_2", "wrn16_2"), ("cifar:mobilenet_v1", "cifar:mob")]
)
def test_unknown_name_of_ours(name, near):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=f"expected a known model, but got '{name}'; did you mean '{near}"):
        build_model(name, 5)


def test_input_formats_of_ours():
    assert default_input_format("cifar:vgg13", 100, 3) == default_input_format("resnet20", 100, 3) != InputFormat()
    assert default_input_format("mobilenet_v1", 1000, 3).resolution == 224
    assert len(default_input_format("mobilenet_v1", 5, 1).mean) == 1


def test_a_run_by_its_prefixed_name(good, train, tmp_path):
    good(*train(tmp_path / "run", "--model.name", "cifar:vgg8"))
    loaded = load_model(None, tmp_path / "run", 10, channels=1)
    assert type(loaded.module).__name__ == "VGG" and loaded.module(torch.rand(2, 1, 8, 8)).shape == (2, 10)
