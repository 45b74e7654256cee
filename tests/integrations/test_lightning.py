"""The face for Lightning: a LightningModule, for either of its two packages."""

import copy
import importlib
import sys
import warnings

import pytest
import torch

from dlkd import Distiller
from dlkd.methods import LossOptions

lightning = pytest.importorskip("lightning", reason="lightning is not installed")

import dlkd.integrations.lightning as face  # noqa: E402
from dlkd.integrations.lightning import DistillationModule  # noqa: E402


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.fixture
def loader(data):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=16)


@pytest.fixture
def fit(tmp_path, loader):
    def run(module, package=lightning, ckpt_path=None, validation=None, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = package.Trainer(
                accelerator="cpu",
                default_root_dir=tmp_path,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                **options,
            )
            trainer.fit(module, loader, validation, ckpt_path=ckpt_path)
        return trainer

    return run


def test_hundred_steps(net, data, distiller, pinned, wake, without_teacher, fit, tmp_path):
    class Waking(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            wake(module, distiller=distiller)

    check, module = pinned(distiller), DistillationModule(net(), distiller, sgd)
    trainer = fit(module, max_steps=100, callbacks=[Waking()])
    check()
    assert trainer.global_step == 100 and not torch.equal(module.student.head.weight, net().head.weight)
    without_teacher(module.state_dict(), distiller)
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    saved = torch.load(tmp_path / "all.ckpt", weights_only=True)
    without_teacher(saved, distiller)
    expected = {f"student.{n}" for n in net().state_dict()} | {f"distiller.{n}" for n in distiller.state_dict()}
    assert set(saved["state_dict"]) == expected
    again = DistillationModule.load_from_checkpoint(
        tmp_path / "all.ckpt",
        student=net(),
        distiller=Distiller(copy.deepcopy(distiller.teacher.models[0])),
        optimizer=sgd,
    )
    batch = [x[:16] for x in data]
    for each in (again, module):
        each.eval()
        each.log = lambda *_, **__: None
    assert torch.equal(again.training_step(batch, 0), module.training_step(batch, 0))


def test_first_step_is_that_of_a_loop_by_hand(net, data, distiller, fit):
    module, student = DistillationModule(net(), distiller, sgd), net()
    trainer = fit(module, max_steps=1)
    images, labels = (x[:16] for x in data)
    loss = distiller(images, student(images), labels)
    loss.backward()
    sgd(student.parameters()).step()
    assert trainer.callback_metrics["train_loss_step"] == loss
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), module.student.parameters(), strict=True))


def test_figures(net, data, distiller, fit, loader):
    module = DistillationModule(net(), distiller, sgd)
    trainer = fit(module, max_epochs=1, validation=loader)
    with torch.no_grad():
        logits = module.student.eval()(data[0])
    accuracy = (logits.argmax(dim=1) == data[1]).float().mean().item()
    loss = torch.nn.functional.cross_entropy(logits, data[1]).item()
    assert trainer.callback_metrics["val_accuracy"].item() == pytest.approx(accuracy)
    assert trainer.callback_metrics["val_loss"].item() == pytest.approx(loss, rel=1e-5)
    (tested,) = trainer.test(module, loader, verbose=False)
    assert tested["test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("classes", [6, 16])
def test_figures_of_soft_labels(classes, monkeypatch):
    """As many classes as images would broadcast against class numbers without a word."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, classes)
    module, said = DistillationModule(net, Distiller(torch.nn.Linear(4, classes), "kd"), sgd), {}
    monkeypatch.setattr(module, "log_dict", lambda figures, **_: said.update(figures))
    images, labels = torch.randn(16, 4), torch.randint(0, classes, (16,))
    module.validation_step((images, labels), 0)
    hard = dict(said)
    module.validation_step((images, torch.nn.functional.one_hot(labels, classes).float()), 0)
    assert said["val_accuracy"] == hard["val_accuracy"] == (net(images).argmax(1) == labels).float().mean()
    assert said["val_loss"].item() == pytest.approx(hard["val_loss"].item(), rel=1e-6)
    mixed = 0.7 * torch.eye(classes)[labels] + 0.3 * torch.eye(classes)[labels.roll(1)]
    module.test_step((images, mixed), 0)
    assert said["test_accuracy"] == hard["val_accuracy"]


def test_a_learned_temperature(net, teacher, fit, tmp_path):
    """It reaches the optimizer with its curriculum, and a resumed run goes on with it."""
    loss = LossOptions(ramp_epochs=4)
    straight = DistillationModule(net(), Distiller(teacher, "ctkd", loss=loss), sgd)
    fit(straight, max_epochs=4)
    assert straight.distiller.method.temperature.strength == 1.0
    half = DistillationModule(net(), Distiller(teacher, "ctkd", loss=loss), sgd)
    fit(half, max_epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    theta = half.distiller.method.temperature.theta.item()
    resumed = DistillationModule(net(), Distiller(teacher, "ctkd", loss=loss), sgd)
    fit(resumed, max_epochs=4, ckpt_path=tmp_path / "half.ckpt")
    end = straight.distiller.method.temperature.theta
    assert 1.0 != theta != end.item() and torch.equal(resumed.distiller.method.temperature.theta, end)
    assert torch.equal(resumed.student.head.weight, straight.student.head.weight)


def test_an_optimizer_with_a_schedule_and_half_precision(net, distiller, fit):
    def both(parameters):
        optimizer = sgd(parameters)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}

    trainer = fit(DistillationModule(net(), distiller, both), max_epochs=2, precision="bf16-mixed")
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.025)
    assert distiller.teacher.models[0].head.weight.dtype == torch.float32
    fit(DistillationModule(net(), distiller, sgd), max_epochs=1, precision="bf16-true")
    assert distiller.teacher.models[0].head.weight.dtype == torch.float32


def test_the_other_package(net, distiller, fit, pinned):
    """Its Trainer takes only modules of its own class."""
    other = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
    from dlkd.integrations.pytorch_lightning import DistillationModule as Other

    check = pinned(distiller)
    assert fit(Other(net(), distiller, sgd), package=other, max_epochs=1).global_step == 2
    check()


def test_refusals(net, teacher):
    student = net()
    with pytest.raises(ValueError, match="two models"):
        DistillationModule(student, Distiller(student), sgd)


def test_without_lightning(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match=r"pip install 'dlkd\[lightning\]'"):
        importlib.reload(face)
