"""The face for timm: a TrainingTask."""

import copy
import importlib
import sys

import pytest
import torch
from torch import nn

from dlkd import Distiller
from dlkd.methods import LossOptions

pytest.importorskip("timm.task", reason="timm 1.0.27 or newer is not installed")
timm = pytest.importorskip("timm")

from timm.data import Mixup  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402
from timm.task import TrainingTask, load_task_ema_checkpoint, resume_task_checkpoint  # noqa: E402
from timm.utils import CheckpointSaver  # noqa: E402

import dlkd.integrations.timm as face  # noqa: E402
from dlkd.integrations.timm import DistillationTask  # noqa: E402


def test_hundred_steps(net, data, distiller, pinned, wake, without_teacher, tmp_path):
    images, labels = data
    task, check = DistillationTask(net(), distiller), pinned(distiller)
    assert isinstance(task, TrainingTask)
    optimizer = create_optimizer_v2(task.get_trainable_module(), "sgd", lr=0.1, weight_decay=0.01)
    task.setup_ema(decay=0.9)
    mixup = Mixup(mixup_alpha=1.0, num_classes=4, label_smoothing=0.1)
    losses = []
    for step in range(100):
        wake(task, distiller=distiller)
        batch = mixup(images.clone(), labels) if step % 2 else data  # soft labels, and class numbers
        result = task(*batch)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        task.update_ema()
        losses.append(result["loss"].item())
    check()
    assert sum(losses[-10:]) < sum(losses[:10])
    without_teacher(task.state_dict(), distiller)
    saver = CheckpointSaver(net(), optimizer, task=task, checkpoint_dir=tmp_path, recovery_dir=tmp_path)
    saver.save_checkpoint(0, 1.0)
    saved = torch.load(tmp_path / "last.pth.tar", weights_only=True)
    without_teacher(saved, distiller)
    assert saved["state_dict"].keys() == saved["state_dict_ema"].keys() == net().state_dict().keys()
    assert set(saved["task_state"]["distiller"]) == set(distiller.state_dict()) and "task_state_ema" not in saved
    assert task.get_eval_model() is task.trainable_module.student
    average = task.get_eval_model(ema=True)
    assert type(average) is type(net()) and not torch.equal(average.head.weight, task.get_eval_model().head.weight)


def test_result_is_that_of_the_distiller(net, data, distiller):
    images, labels = data
    task = DistillationTask(net(), distiller)
    result = task(images, labels)
    parts = distiller.parts(images, net()(images), labels)
    assert torch.equal(result["loss"], parts.total)
    expected = [parts.label, parts.distillation, parts.temperature, parts.level]
    names = ["task_loss", "kd_loss", "temperature", "level"]
    assert all(torch.equal(result[n], e.mean()) for n, e in zip(names, expected, strict=True))
    assert result["output"].shape == (32, 4) and task.device == torch.device("cpu")
    assert set(DistillationTask(net(), Distiller(None, "ce"))(images, labels)) == {"loss", "output", "task_loss"}


def test_resume(net, data, distiller, teacher, tmp_path):
    task = DistillationTask(net(), distiller)
    optimizer = create_optimizer_v2(task.get_trainable_module(), "sgd", lr=0.1)
    task.setup_ema()
    task(*data)["loss"].backward()
    optimizer.step()
    task.update_ema()
    CheckpointSaver(net(), optimizer, task=task, checkpoint_dir=tmp_path).save_checkpoint(3, 1.0)
    other = DistillationTask(net(), Distiller(copy.deepcopy(teacher)))
    other.setup_ema()
    assert not other.distiller.method.level.calibrated
    assert resume_task_checkpoint(other, tmp_path / "last.pth.tar", log_info=False) == 4
    load_task_ema_checkpoint(other, tmp_path / "last.pth.tar")
    assert torch.equal(other(*data)["loss"], task(*data)["loss"])
    averages = (t.get_eval_model(ema=True).state_dict().values() for t in (task, other))
    assert all(torch.equal(a, b) for a, b in zip(*averages, strict=True))


def test_what_a_method_learns_reaches_optimizer_and_checkpoint(net, data, teacher):
    task = DistillationTask(net(), Distiller(teacher, "ctkd", loss=LossOptions(ramp_epochs=1)))
    optimizer = create_optimizer_v2(task.get_trainable_module(), "sgd", lr=0.1, weight_decay=0.01)
    task.start_epoch(0)
    (theta,) = task.distiller.parameters()
    assert any(p is theta for group in optimizer.param_groups for p in group["params"])
    assert theta in set(task.get_clip_parameters(exclude_head=True)) and len(task.get_clip_parameters(True)) == 5
    task(*data)["loss"].backward()
    optimizer.step()
    assert theta.item() != 1.0
    assert torch.equal(task.get_task_state()["distiller"]["method.temperature.theta"], theta)
    assert DistillationTask(net(), Distiller(teacher, "kd")).get_task_state() == {}


def test_groups_of_the_optimizer_are_those_of_the_student(teacher):
    """What timm knows of a ViT, layers and parameters without decay, is known of the task too."""
    student = timm.create_model("test_vit", num_classes=4)
    task = DistillationTask(student, Distiller(teacher, "ctkd"))

    def rates(module):
        optimizer = create_optimizer_v2(module, "sgd", lr=0.1, weight_decay=0.05, layer_decay=0.5)
        return {id(p): (g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}

    alone, together = rates(student), rates(task.get_trainable_module())
    (theta,) = task.distiller.parameters()
    assert len(set(alone.values())) > 4 and together.pop(id(theta))[0] == 1.0
    assert together == alone
    assert task.get_trainable_module().no_weight_decay() == {f"student.{n}" for n in student.no_weight_decay()}


def test_distributed(net, data, teacher, tmp_path):
    """Student and learned temperature get their gradients behind DistributedDataParallel, and names stay clean."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        distiller = Distiller(teacher, "ctkd", loss=LossOptions(ramp_epochs=1))
        distiller.start_epoch(0)
        plain = DistillationTask(net(), copy.deepcopy(distiller))
        task = DistillationTask(net(), distiller).prepare_distributed()
        for t in (plain, task):
            t(*data)["loss"].backward()
        pairs = zip(plain.parameters(), task.parameters(), strict=True)
        assert all(torch.equal(a.grad, b.grad) for a, b in pairs) and plain.distiller.method.temperature.theta.grad
        assert task.get_checkpoint_state()["state_dict"].keys() == net().state_dict().keys()
        assert type(task.get_eval_model()) is type(net())
    finally:
        torch.distributed.destroy_process_group()


def test_compile(net, data, distiller):
    plain, task = DistillationTask(net(), distiller), DistillationTask(net(), distiller)
    compiled = task.compile(backend="eager")
    assert task.get_eval_model() is compiled is task.trainable_module.student
    assert torch.equal(task(*data)["loss"], plain(*data)["loss"])
    assert task.get_checkpoint_state()["state_dict"].keys() == net().state_dict().keys()


def test_refusals(net, teacher):
    student = net()
    with pytest.raises(ValueError, match="two models"):
        DistillationTask(student, Distiller(student))
    with pytest.raises(ValueError, match="weak and a strong"):
        DistillationTask(student, Distiller(teacher, "mlkd"))


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.task", None)
    with pytest.raises(ImportError, match=r"timm 1.0.27 or newer.*pip install 'dlkd\[timm\]'"):
        importlib.reload(face)


def test_any_module_is_a_student(data, distiller):
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    task = DistillationTask(student, distiller)
    optimizer = create_optimizer_v2(task.get_trainable_module(), "adamw", lr=0.01, layer_decay=0.9)
    task(*data)["loss"].backward()
    optimizer.step()
    assert student[1].weight.grad.abs().sum() > 0
