"""The input format against its closed form, and what it refuses."""

import json

import pytest
import torch
from torch.nn import functional

from dlkd.models import InputFormat

GREY = InputFormat((0.5,), (0.25,))


def test_no_format_leaves_the_images_alone():
    images = torch.rand(2, 3, 8, 8)
    assert InputFormat()(images) is images


def test_normalises_per_channel():
    images = torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    out = InputFormat((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))(images)
    assert torch.equal(out[1, :, 2, 3], torch.tensor([0.0, 1.0, 0.5]))


def test_resizes_antialiased_and_only_when_the_side_differs():
    images = torch.rand(2, 1, 8, 8)
    assert InputFormat(resolution=8)(images) is images
    # Antialiased halving weighs more than the two nearest pixels; plain bilinear is their mean.
    out = InputFormat(resolution=4)(images)
    assert torch.equal(out, functional.interpolate(images, size=(4, 4), mode="bilinear", antialias=True))
    assert not torch.allclose(out, functional.avg_pool2d(images, 2), atol=1e-3)
    assert InputFormat(resolution=8)(torch.rand(1, 1, 8, 6)).shape == (1, 1, 8, 8)


def test_one_format_serves_a_frozen_teacher_and_a_trained_input():
    form = InputFormat((0.125,), (0.0625,))  # Used nowhere else: the constants are cached per value.
    with torch.inference_mode():
        form(torch.rand(1, 1, 2, 2))
    images = torch.rand(1, 1, 2, 2, requires_grad=True)
    (form(images) * 3).sum().backward()
    assert torch.allclose(images.grad, torch.full_like(images, 48.0))


def test_keeps_the_dtype():
    assert GREY(torch.rand(1, 1, 2, 2, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert GREY(torch.rand(1, 1, 2, 2, dtype=torch.float64)).dtype is torch.float64


@pytest.mark.parametrize("form", [InputFormat(), InputFormat((0.1, 0.2), (0.3, 0.4)), InputFormat((0.1,), (1,), 32)])
def test_json_round_trip(form):
    again = InputFormat.from_dict(json.loads(json.dumps(form.to_dict())))
    assert again == form and hash(again) == hash(form)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": (0.5,)}, "together"),
        ({"std": (0.5,)}, "together"),
        ({"mean": (0.5,), "std": (0.0,)}, "positive"),
        ({"mean": (0.5,), "std": (float("nan"),)}, "positive"),
        ({"mean": (float("inf"),), "std": (1.0,)}, "finite"),
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "as many"),
        ({"mean": (), "std": ()}, "as many"),
        ({"resolution": 0}, "at least 1"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        InputFormat(**values)


@pytest.mark.parametrize(
    "values", [{"size": 3}, {"mean": "0.5", "std": [1]}, {"mean": 0.5, "std": 0.5}, {"resolution": "32"}]
)
def test_from_dict_refuses(values):
    with pytest.raises(ValueError, match="expected"):
        InputFormat.from_dict(values)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 4, 4), "expected images with 1 channels.*got 3"),
        (torch.rand(1, 4, 4), "got .1, 4, 4."),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "uint8"),
    ],
)
def test_refuses_other_images(images, message):
    with pytest.raises(ValueError, match=message):
        GREY(images)
