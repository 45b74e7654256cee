"""What a step of the run takes: time and memory, measured on copies."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlkd.data import Batch, FilePixels
from dlkd.errors import UserError, first_line
from dlkd.features import FeatureTap
from dlkd.methods import Signals
from dlkd.preflight.findings import Finding
from dlkd.store import minutes
from dlkd.train.layers import Taps
from dlkd.train.memory import is_out_of_memory, largest_that_fits, too_large
from dlkd.train.optim import make_optimizer
from dlkd.train.session import Session


def ask_student(session: Session, student: nn.Module, images: Tensor) -> Any:
    """What ``student`` says of images in [0, 1], in the memory format and the precision of the run."""
    precision = session.fabric.strategy.precision
    with precision.forward_context():
        said = student(precision.convert_input(session.shown(images)))
    return precision.convert_output(said)


def cost(session: Session, batch: Batch, findings: list[Finding]) -> dict[str, Any]:
    """Time a step of copies, with the teacher's share though a store may know that already.

    Memory is what the run takes, its moving average, which is there already, and the optimizer's state included, and
    once more the student's weights, of which there is a copy.
    """
    device, optim = session.fabric.device, session.options.optim
    batch = batch.map(lambda x: x[: session.steps.share])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step = _step_of_copies(session, batch)
    with _step_in_one_line():
        if not _fits(step, len(batch.labels)):
            fitting = largest_that_fits(step, len(batch.labels))
            raise too_large(len(batch.labels), fitting, device, session.group.size)
        _finish(device)
        started = time.perf_counter()
        step(len(batch.labels))
        _finish(device)
    seconds = time.perf_counter() - started
    seconds *= optim.accumulate * session.epochs * session.steps.per_epoch
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes()
    findings.append(Finding("estimate", f"{_duration(seconds)} on {device}, {memory / 2**30:.1f} GB of memory"))
    if isinstance(session.data.train.pixels, FilePixels):
        findings.append(Finding("input", f"images are opened from files at {session.size} pixels"))
    return {"estimated_seconds": seconds, "estimated_memory_bytes": memory}


def _step_of_copies(session: Session, batch: Batch) -> Callable[[int], None]:
    """A training step on the first so many of ``batch``, of copies of student, method and optimizer."""
    device, options = session.fabric.device, session.options
    student, method = copy.deepcopy(session.module).train(), copy.deepcopy(session.method)
    taps = None if session.taps is None else Taps(FeatureTap(student, session.taps.student.paths), session.taps.teacher)
    optimizer = make_optimizer(student, options.optim, method.parameters(), options.engine.uses_fused(device))

    def step(size: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        shown = batch.map(lambda x: x[:size])
        for view in (shown,) if shown.strong is None else (shown, shown.strong_view()):
            with contextlib.ExitStack() as heard:
                for tap in taps or ():
                    heard.enter_context(tap)
                out = None if session.teaching is None else session.teaching.teacher(view.images)
                logits = ask_student(session, student, view.images)
            features = [tuple(tap.take()) for tap in taps or ()] or [(), ()]
            level = None if session.method.level is None else torch.full((len(view.labels),), 0.5, device=device)
            taught = logits.detach() if out is None else out.logits
            probe = None if out is None else out.mean_probe_logits()
            known = view.labelled_share() if session.data.train.partly_labelled else None
            signals = Signals(logits, taught, view.target, level, probe, labelled=known, positions=view.positions)
            signals = signals._replace(student_features=features[0], teacher_features=features[1])
            method.parts(signals).total.backward()
        optimizer.step()

    return step


def _fits(step: Callable[[int], None], size: int) -> bool:
    """Does a step fit into memory? Its error, which holds what a failed one had allocated, is gone afterwards."""
    try:
        step(size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def _finish(device: torch.device) -> None:
    """Wait for what the device was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _step_in_one_line() -> Iterator[None]:
    """What a student's training step raises, as batch norm does for a batch of one."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(f"a training step failed: {reason}; try another --optim.batch_size or student") from error


def _resident_bytes() -> int:
    if os.name == "nt":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _duration(seconds: float) -> str:
    return f"about {minutes(seconds)}"
