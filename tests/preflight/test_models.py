"""Models that somebody might bring: what does not fit is one line before the run."""

import numpy as np
import pytest
import torch

from dlkd import ModelOptions, TeacherOptions
from dlkd.errors import UserError
from dlkd.models import build_model
from dlkd.preflight import preflight
from dlkd.train.optim import OptimOptions
from dlkd.train.setup import make_session

MODELS = """
import torch
from torch import nn

class Answer(nn.Module):
    def __init__(self, num_classes=10, channels=1, **kind):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(num_classes))
        self.kind = kind
    def forward(self, x):
        logits = x.mean(dim=(1, 2, 3))[:, None] + self.w
        return self.kind.get("change", lambda z: z)(logits)

def nine(num_classes):
    return Answer(num_classes, change=lambda z: z[:, :9])
def a_dict(num_classes):
    return Answer(num_classes, change=lambda z: {"logits": z})
def index_error(num_classes):
    return Answer(num_classes, change=lambda z: z.mean(dim=7))
def own_error(num_classes):
    def change(z):
        raise KeyError("pixel\\nmore")
    return Answer(num_classes, change=change)
def not_finite(num_classes):
    return Answer(num_classes, change=lambda z: z / torch.arange(len(z)).clamp(max=5).sub(5)[:, None])
def small_batches(num_classes):
    def change(z):
        assert len(z) <= 256, "a batch larger than the one in training"
        return z
    return Answer(num_classes, change=change)
def always_first(num_classes):
    return Answer(num_classes, change=lambda z: z + torch.eye(num_classes)[0])
"""


@pytest.fixture
def models(own_module):
    """A module with models that somebody might bring."""
    own_module("preflight_models", MODELS)


def test_two_classes_ask_for_half_way_between_chance_and_certainty(tmp_path, models, look):
    # In the order of the classes, as a folder is: the first thousand alone would be 75 % of class 0.
    images, labels = np.zeros((1500, 8, 8), np.uint8), np.repeat([0, 1], 750)
    np.savez(tmp_path / "sorted.npz", train_images=images, train_labels=labels)
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    found, _ = look(
        method="kd",
        data={"name": "npz", "root": tmp_path / "sorted.npz", "held_out": 0, "test_share": 0.1},
        teacher=TeacherOptions("preflight_models:always_first", tmp_path / "w.pt"),
    )
    assert found.figures["images"] == 1000 and found.figures["teacher_accuracy"] == 50
    (advice,) = [finding.advice for finding in found.findings if finding.what == "teacher"]
    assert "expected at least 75.0 %" in advice


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nine", "expected the student to return logits [64, 10], but got [64, 9]"),
        ("a_dict", "expected the student to return logits [64, 10], but got dict"),
        ("index_error", "the student does not take images of [1, 8, 8]: Dimension out of range"),
        ("own_error", "the student does not take images of [1, 8, 8]: 'pixel"),
    ],
)
def test_a_student_with_another_shape_is_one_line(options, models, name, message):
    session = make_session(options(student=ModelOptions(f"preflight_models:{name}")), quiet=True)
    with pytest.raises(UserError) as caught:
        preflight(session)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert session.module.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nine", "expected the teacher to return 10 logits, one a class, but got [9]"),
        ("a_dict", "expected the teacher to return logits [256, classes], but got dict"),
        ("index_error", "the teacher does not take images of [1, 8, 8]: Dimension out of range"),
        ("own_error", "the teacher does not take images of [1, 8, 8]: 'pixel"),
        ("not_finite", "the teacher's logits are not finite, first for sample id "),
    ],
)
def test_a_teacher_with_another_shape_is_one_line(options, models, tmp_path, name, message):
    torch.save({"w": torch.ones(10)}, tmp_path / "w.pt")
    of_theirs = TeacherOptions(f"preflight_models:{name}", tmp_path / "w.pt")
    session = make_session(options(method="kd", teacher=of_theirs), quiet=True)
    with pytest.raises(UserError) as caught:
        preflight(session)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    if name == "not_finite":
        # In a batch all from the sixth on are divided by zero.
        assert str(session.data.held_out.ids[5]) in str(caught.value)


def test_a_student_for_other_images_is_one_line(options):
    session = make_session(options(), quiet=True)
    session.module = build_model("resnet8", 10, channels=3)
    with pytest.raises(UserError, match=r"the student does not take images of \[1, 8, 8\]: ") as caught:
        preflight(session)
    assert "\n" not in str(caught.value)


def test_accumulated_batches_are_tried_one_at_a_time(look, models):
    found, _ = look(
        student=ModelOptions("preflight_models:small_batches"),
        optim=OptimOptions(batch_size=256, accumulate=2),
    )
    assert found.figures["batch_shape"] == [512, 1, 8, 8]
