"""A batch that broke a run can be looked at again, and gives the same loss."""

import numpy as np
import pytest
import torch

from dlkd import replay
from dlkd.errors import UserError
from dlkd.methods import LossOptions
from dlkd.train.calibration import calibrate
from dlkd.train.engine import EngineOptions
from dlkd.train.options import DataOptions, DistillOptions, ModelOptions
from dlkd.train.replay import BAD_BATCH, keep_batch
from dlkd.train.setup import make_session
from dlkd.train.step import _signals
from dlkd.train.teacher_options import TeacherOptions


def test_a_run_that_diverges_keeps_its_batch(tmp_path, dlkd, distill):
    out = tmp_path / "run"
    diverges = ("--optim.lr", 1e30, "--optim.schedule", "constant", "--optim.batch_size", 16)
    done = dlkd(*distill(out, *diverges, "--method", "kd"))
    assert done.status == 2 and done.err.count("\n") == 1 and str(out / BAD_BATCH) in done.err
    kept = replay(out)
    assert kept.step >= 1 and kept.images.shape == (16, 1, 8, 8) and kept.ids.shape == (16,)
    assert not kept.parts.total.isfinite()
    # The same command works once the cause is mended.
    assert dlkd(*distill(out)).status == 0 and not (out / BAD_BATCH).exists()


def test_unchecked_runs_go_on(tmp_path, dlkd, distill):
    done = dlkd(
        *distill(tmp_path / "run", "--optim.lr", 1e30, "--optim.schedule", "constant", "--method", "kd"),
        *("--engine.check_finite", "false", "--engine.evaluate_every", 0),
    )
    assert not (tmp_path / "run" / BAD_BATCH).exists()
    assert "step" not in done.err  # what is wrong with its figures is said at the end


@pytest.mark.parametrize("method", ["dlkd", "ce", "r2kd", "dkd"])  # dkd warms up
def test_the_same_loss_again(tmp_path, teacher, method):
    session = make_session(
        DistillOptions(
            out=tmp_path / "run",
            data=DataOptions(per_class=30),
            method=method,
            student=ModelOptions("resnet8x0.5"),
            teacher=TeacherOptions(weights=teacher),
            loss=LossOptions(ce_weight=0.3),
            engine=EngineOptions(threads=1),
        ),
        quiet=True,
    )
    calibrate(session)
    batch = session.steps[3]
    lesson = None if session.lessons is None else session.lessons(batch)
    session.module.train()
    session.method.start_epoch(0)
    # Forward moves the running statistics, which training mode does not look at.
    signals = _signals(session, session.module(session.input_format(batch.images)), lesson, batch, False)
    keep_batch(session, batch, 3, signals)
    kept = replay(tmp_path / "run" / BAD_BATCH)
    torch.testing.assert_close(kept.parts.total, session.method.parts(signals).total, rtol=1e-6, atol=0)
    assert torch.equal(kept.images, batch.images) and kept.step == 3
    assert np.array_equal(kept.ids, session.data.train.ids[batch.positions.numpy()])


def test_nothing_to_replay(tmp_path):
    with pytest.raises(UserError, match="expected a kept batch at"):
        replay(tmp_path)
    (tmp_path / BAD_BATCH).write_bytes(b"no")
    with pytest.raises(UserError, match="none that can be read"):
        replay(tmp_path)
