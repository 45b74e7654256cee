"""The face for the Trainer of Hugging Face."""

import copy
import importlib
import sys

import pytest
import torch
from safetensors.torch import load_file

from dlkd import Distiller
from dlkd.integrations import LogitsOf
from dlkd.integrations.outputs import logits_of
from dlkd.methods import LossOptions

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

import dlkd.integrations.transformers as face  # noqa: E402
from dlkd.integrations.transformers import DistillationTrainer  # noqa: E402


class InOrder(DistillationTrainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


@pytest.fixture
def trainer(data, tmp_path):
    rows = [{"pixel_values": image, "labels": label} for image, label in zip(*data, strict=True)]

    def make(student, distiller, train=rows, more=(), **options):
        settings = {
            "per_device_train_batch_size": 16,
            "learning_rate": 0.1,
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        arguments = transformers.TrainingArguments(str(tmp_path), **{**settings, **options})
        return InOrder(student, arguments, train_dataset=train, eval_dataset=rows, distiller=distiller, **dict(more))

    return make


def vit():
    torch.manual_seed(0)
    sizes = dict.fromkeys(("image_size", "hidden_size", "intermediate_size"), 8)
    config = transformers.ViTConfig(**sizes, patch_size=4, num_hidden_layers=1, num_attention_heads=2, num_labels=4)
    return transformers.ViTForImageClassification(config)


def test_hundred_steps(distiller, pinned, wake, without_teacher, trainer, tmp_path):
    class Waking(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **_):
            wake(model, distiller=distiller)

    check, student = pinned(distiller), vit()
    before = student.classifier.weight.clone()
    loop = trainer(student, distiller, max_steps=100, save_strategy="steps", save_steps=100)
    loop.add_callback(Waking())
    loop.train()
    check()
    assert loop.state.global_step == 100 and not torch.equal(student.classifier.weight, before)
    folder = tmp_path / "checkpoint-100"
    names = without_teacher(load_file(folder / "model.safetensors"), distiller)
    assert len(names) == len(student.state_dict()) and {n.split(".")[0] for n in names} == {"vit", "classifier"}
    without_teacher(load_file(folder / "distiller.safetensors"), distiller)
    without_teacher(torch.load(folder / "optimizer.pt", weights_only=True) | {"x": before}, distiller)
    loop.save_model(tmp_path / "out")
    alone = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out")
    assert all(
        torch.equal(a, b) for a, b in zip(alone.state_dict().values(), student.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["dlkd", "ctkd"])
def test_two_steps_are_those_of_a_loop_by_hand(name, accumulate, net, data, teacher, trainer):
    """Accumulated batches are averaged, and gradients begin anew with each step: those of a temperature too."""
    batch, made = 32 // accumulate, []
    for _ in range(2):
        distiller = Distiller(copy.deepcopy(teacher), name)
        distiller.calibrate([data[0]])
        for p in distiller.parameters():
            p.data.zero_()  # where the small steps from it can be told apart
        made.append((net(), distiller))
    (student, distiller), (own, hand) = made
    options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate, "max_steps": 2}
    trainer(student, distiller, **options).train()
    optimizer = torch.optim.SGD([*own.parameters(), *hand.parameters()], lr=0.1)
    for epoch in range(2):
        hand.start_epoch(epoch)
        optimizer.zero_grad()
        for k in range(accumulate):
            images, labels = (x[k * batch : (k + 1) * batch] for x in data)
            (hand(images, own(images), labels) / accumulate).backward()
        optimizer.step()
    pairs = zip([*student.parameters(), *distiller.parameters()], optimizer.param_groups[0]["params"], strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-9)


def test_evaluation_is_of_the_student(net, data, distiller, trainer, monkeypatch):
    student = net()
    loop = trainer(student, distiller)
    monkeypatch.setattr(distiller.teacher, "models", ())  # nobody to ask
    with torch.no_grad():
        logits = student.eval()(data[0])
    expected = torch.nn.functional.cross_entropy(logits, data[1]).item()
    assert loop.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_has_every_sample(net, with_logits, data, distiller, trainer):
    """Whatever the student returns: of a tensor the Trainer would take the first sample of a batch for the loss."""
    students, seen = [net(), net(kind=with_logits), vit()], []
    for student in students:
        with torch.no_grad():
            expected = logits_of(student.eval()(data[0]), "it").numpy()
        metrics = {"compute_metrics": lambda p: seen.append(p) or {"n": len(p.predictions)}}
        loop = trainer(student, distiller, more=metrics, per_device_eval_batch_size=5)
        found = loop.predict(loop.eval_dataset)
        assert found.predictions.shape == (32, 4) and found.label_ids.tolist() == data[1].tolist()
        torch.testing.assert_close(torch.tensor(found.predictions), torch.tensor(expected))
        assert found.metrics["test_n"] == loop.evaluate()["eval_n"] == 32
    assert all((p.predictions.argmax(1) == found.predictions.argmax(1)).all() for p in seen[-2:]) and len(seen) == 6


def test_a_learned_temperature(net, teacher, trainer, tmp_path):
    """It reaches the optimizer with its curriculum, and a resumed run goes on with it."""

    def make(epochs):
        distiller = Distiller(teacher, "ctkd", loss=LossOptions(ramp_epochs=4))
        return trainer(net(), distiller, num_train_epochs=epochs, save_strategy="epoch", weight_decay=0.1)

    straight = make(4)
    straight.train()
    rule = straight.distiller.method.temperature
    assert rule.strength == 1.0 and rule.theta.item() != 1.0
    (group,) = [g for g in straight.optimizer.param_groups if any(p is rule.theta for p in g["params"])]
    assert group["weight_decay"] == 0.0 and len(group["params"]) == 1
    half = load_file(tmp_path / "checkpoint-4" / "distiller.safetensors")["method.temperature.theta"]
    resumed = make(4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert half.item() != rule.theta.item()
    assert torch.equal(resumed.distiller.method.temperature.theta, rule.theta)
    assert torch.equal(resumed.model.head.weight, straight.model.head.weight)


def test_epochs_are_counted_from_0_and_within_them_too(net, teacher, trainer, tmp_path):
    told = []

    class Told(Distiller):
        def start_epoch(self, epoch):
            told.append(epoch)

    options = {"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3}
    trainer(net(), Told(teacher, "kd"), **options).train()
    assert told == [0, 1, 2]
    told.clear()
    resumed = trainer(net(), Told(teacher, "kd"), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))  # in the middle of the second
    assert told == [1, 2]


def test_students_and_teachers_with_an_output(with_logits, net, data, trainer):
    teacher, student = LogitsOf(net(16, kind=with_logits)), net(kind=with_logits)
    distiller = Distiller(teacher)
    loop = trainer(student, distiller, max_steps=1)
    distiller.calibrate((b["pixel_values"], b["labels"]) for b in loop.get_train_dataloader())
    assert int(distiller.method.level.count) == 32
    loop.train()
    assert not torch.equal(student.head.weight, net(kind=with_logits).head.weight)
    with pytest.raises(ValueError, match=r"wrap it, dlkd.integrations.LogitsOf\(teacher\)"):
        Distiller(transformers.ViTForImageClassification(vit().config), "kd")(*data[:1], torch.zeros(32, 4), data[1])


def test_refusals(net, data, teacher, distiller, trainer):
    student = net()
    with pytest.raises(ValueError, match="two models"):
        trainer(student, Distiller(student))
    with pytest.raises(ValueError, match="expected the student as model, but got none"):
        DistillationTrainer(distiller=distiller, model_init=lambda: student)
    for wrong in ({"label_smoothing_factor": 0.1}, {"more": {"compute_loss_func": lambda *_: 0}}):
        with pytest.raises(ValueError, match="neither compute_loss_func nor label_smoothing_factor"):
            trainer(net(), distiller, **wrong)
    loop = trainer(net(), distiller)
    with pytest.raises(ValueError, match="batches with pixel_values and labels, but got no labels"):
        loop.compute_loss(loop.model, {"pixel_values": data[0]})
    with pytest.raises(ValueError, match="batches with pixel_values and labels, but got no pixel_values"):
        loop.compute_loss(loop.model, {"images": data[0], "labels": data[1]})


def test_several_processes_do_not_learn_a_temperature(net, teacher, trainer, monkeypatch):
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="expected one process for ctkd"):
        trainer(net(), Distiller(teacher, "ctkd"))
    trainer(net(), Distiller(teacher, "kd"))


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'dlkd\[transformers\]'"):
        importlib.reload(face)
