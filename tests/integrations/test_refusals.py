"""What a Distiller refuses, in one line each."""

import copy

import pytest
import torch
from torch import nn

from dlkd import Distiller, DLKDLoss, FrozenTeacher, InputFormat
from dlkd.errors import UserError
from dlkd.methods import LossOptions


def test_bad_input(teacher, net, data, distiller):
    images, target = data
    logits = net()(images)

    def refuses(message, error=ValueError):
        return pytest.raises(error, match=message)

    with refuses(r"logits of the student \[32, classes\] for 32 images, but got \[31, 4\]"):
        distiller(images, logits[:31], target)
    with refuses(r"logits of the student \[32, classes\] .* but got \[32\]"):
        distiller(images, logits[:, 0], target)
    with refuses("a student with the 4 classes of the teacher, but it has 6"):
        distiller(images, net(classes=6)(images), target)
    with refuses("labels between 0 and 3, but got 0 to 4"):
        distiller(images, logits, torch.arange(32) % 5)
    with refuses(r"soft labels of shape \[32, 4\], but got \[32, 3\]"):
        distiller(images, logits, torch.rand(32, 3))
    with refuses("finite distances"):
        distiller(images * float("nan"), logits, target)
    with refuses("a teacher for the method dlkd, but got None"):
        Distiller(None)
    with refuses("did you mean 'dlkd'", UserError):
        Distiller(teacher, "dlkdd")
    with refuses("has no --loss.alpha", UserError):
        Distiller(teacher, loss=LossOptions(alpha=1.0))
    with refuses("with the name of a method only"):
        Distiller(teacher, DLKDLoss(), loss=LossOptions(gamma=2.0))
    with refuses("a method of logits, but fitnet compares inner layers"):
        Distiller(teacher, "fitnet")
    with refuses("input_format with a model only"):
        Distiller(FrozenTeacher(teacher), "kd", input_format=InputFormat())
    with refuses("a teacher with a probe for the method dlkd, but this FrozenTeacher has none"):
        Distiller(FrozenTeacher(teacher))
    with refuses("number of classes", UserError):
        Distiller(teacher, "ctkd", loss=LossOptions(per_instance=True))


def test_bad_calibration(data, distiller):
    for batches, message in (
        ([], "at least one batch of images"),
        ([{"pixel_values": data[0]}], r"but got dict; of a dictionary give \(batch\['pixel_values'\]"),
        ([["a", "b"]], "batches of images, or of images and labels, but got list"),
        ([()], "batches of images, or of images and labels, but got tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            distiller.calibrate(batches)
    with pytest.raises(ValueError, match="limit to be at least 1, or None for all images, but got 0"):
        distiller.calibrate([data[0]], limit=0)


def test_a_teacher_with_another_output_is_told_the_way_out(net, data, with_logits):
    class Output:
        logits = None

    class Other(nn.Module):
        def forward(self, images):
            return Output()

    with pytest.raises(ValueError, match=r"but got Output; wrap it, dlkd.integrations.LogitsOf\(teacher\)"):
        Distiller(Other(), "kd")(data[0], torch.zeros(32, 4), data[1])


def test_a_student_that_is_its_own_teacher(net, teacher):
    student = net()
    with pytest.raises(ValueError, match="expected student and teacher to be two models"):
        Distiller(student).check_student(student)
    Distiller(copy.deepcopy(student)).check_student(student)
    with pytest.raises(ValueError, match="a method with one view of each image, but mlkd has"):
        Distiller(teacher, "mlkd").check_student(student)
