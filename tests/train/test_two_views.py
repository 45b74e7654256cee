"""A weak and a strong view: their losses add up, live or from a store."""

import json

import pytest
import torch
from safetensors.torch import load_file

from dlkd.data import DataOptions, ViewOptions
from dlkd.methods import Signals
from dlkd.train.calibration import calibrate
from dlkd.train.engine import EngineOptions
from dlkd.train.options import DistillOptions, ModelOptions, OptimOptions
from dlkd.train.setup import make_session
from dlkd.train.step import train_step
from dlkd.train.teacher_options import TeacherOptions


def session_of(teacher, out, method, **views):
    options = DistillOptions(
        out=out,
        method=method,
        data=DataOptions(per_class=30),
        views=ViewOptions(**views),
        student=ModelOptions("resnet8x0.5"),
        teacher=TeacherOptions(weights=teacher),
        optim=OptimOptions(lr=0.1, batch_size=16),
        engine=EngineOptions(threads=1),
    )
    session = make_session(options, quiet=True)
    calibrate(session)
    return session


def test_mlkd_takes_a_strong_view_unless_told_not_to(teacher, tmp_path):
    assert (
        session_of(teacher, tmp_path, "mlkd").steps.strong.augment.describe()["each"]["colour"]["policy"]
        == "randaugment"
    )
    chosen = session_of(teacher, tmp_path, "kd", strong="trivialaugment")
    assert chosen.steps.strong.augment.describe()["each"]["colour"]["policy"] == "trivialaugment"
    assert session_of(teacher, tmp_path, "mlkd", strong="none").steps.strong is None
    assert session_of(teacher, tmp_path, "dlkd").steps.strong is None


@pytest.mark.parametrize("method", ["kd", "dlkd+mlkd"])
def test_the_gradient_is_that_of_the_sum(teacher, tmp_path, method):
    session = session_of(teacher, tmp_path, method, strong="randaugment", mixing="mixup")
    batch = session.steps[0]
    reference = session_of(teacher, tmp_path, method, strong="randaugment", mixing="mixup")
    reference.module.train()
    total = torch.zeros(())
    for view, strong in ((batch, False), (batch.strong_view(), True)):
        out = session.teaching.teacher(view.images)
        level = session.level(out.distance()) if session.level is not None else None
        logits = reference.module(reference.input_format(view.images))
        total = total + reference.method.parts(Signals(logits, out.logits, view.target, level, strong=strong)).total
    total.backward()
    session.module.train()
    train_step(session, batch, 0)
    for (name, p), q in zip(session.module.named_parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-6, msg=name)
    assert session.loss_sum.item() / 16 == pytest.approx(total.item(), rel=1e-5)


def test_store_and_live_give_one_student(good, distill, tmp_path):
    options = ("--method", "dlkd+mlkd", "--epochs", 2, "--views.mixing", "cutmix", "--force")
    good(*distill(tmp_path / "live", *options))
    good(*distill(tmp_path / "stored", *options, "--store", tmp_path / "store", "--storage.dtype", "fp32"))
    again = good(*distill(tmp_path / "again", *options, "--store", tmp_path / "store"))
    assert again.status == 0 and (tmp_path / "store" / "strong" / "manifest.json").is_file()
    live, stored, twice = (load_file(tmp_path / n / "student.safetensors") for n in ("live", "stored", "again"))
    assert all(torch.equal(live[k], stored[k]) and torch.equal(live[k], twice[k]) for k in live)
    assert json.loads((tmp_path / "live" / "run.json").read_text())["data"]["views"]
