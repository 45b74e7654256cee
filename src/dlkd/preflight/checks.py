"""Is this run worth its hours? One look at data, teacher, probe and student before the first step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkd.data import Samples, plain_batches
from dlkd.difficulty import probe_distance
from dlkd.errors import UserError, first_line
from dlkd.evaluate import accuracy
from dlkd.preflight.cost import ask_student, cost
from dlkd.preflight.findings import Finding, Preflight
from dlkd.train.session import Session

IMAGES = 1000
"""As many are enough to tell a teacher from chance: one standard error is below 1.6 points."""
MIN_SPREAD = 1e-3
"""Smallest 90 % quantile of the distance: below it the probe is the teacher, and levels are rounding noise."""


def preflight(session: Session) -> Preflight:
    """Look at everything once; nothing is trained and nothing is written.

    A run should stop when the teacher is no better than five times chance (with few classes: halfway
    between chance and certainty), the probe is under half of the teacher, or the 90 % quantile of the
    distance is below 1e-3.

    Raises:
        UserError: a model does not take these images or returns other shapes than ``[B, classes]``.
    """
    data, classes = session.data, len(session.data.train.class_names)
    train = data.train
    findings = [
        Finding("images", _sizes(session)),
        Finding("classes", f"{classes}: {_names(train.class_names)}"),
    ]
    batch = next(session.steps.loader(0, 1)).to(session.fabric.device)
    low, high = batch.images.min().item(), batch.images.max().item()
    shape = list(batch.images.shape)
    findings.append(Finding("one batch", f"{shape}, values {low:.3f} to {high:.3f} (expected within [0, 1])"))
    figures: dict[str, Any] = {"batch_shape": shape, "chance": 100 / classes}
    _check_student(session, batch.images, classes)
    if session.teaching is not None:
        found = _teacher(session, findings)
        figures |= found
    figures |= cost(session, batch, findings)
    return Preflight(tuple(findings), figures)


def _sizes(session: Session) -> str:
    data = session.data
    held = "none held out" if data.held_out is None else f"{len(data.held_out)} held out"
    unlabelled = f" ({data.train.unlabelled} of them without a label)" if data.train.unlabelled else ""
    return f"{len(data.train)} to train on{unlabelled}, {held}, {len(data.test)} to test"


def _names(names: tuple[str, ...], shown: int = 4) -> str:
    return ", ".join(names) if len(names) <= 2 * shown else f"{', '.join(names[:shown])} … {', '.join(names[-2:])}"


def _check_student(session: Session, images: Tensor, classes: int) -> None:
    model = session.module
    training = model.training
    images = images[: session.steps.share]
    with _shown("student", images), torch.no_grad():
        try:
            logits = ask_student(session, model.eval(), images)
        finally:
            model.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (images.shape[0], classes):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"expected the student to return logits [{images.shape[0]}, {classes}], but got {found}")


@contextlib.contextmanager
def _shown(who: str, images: Tensor) -> Iterator[None]:
    """Whatever a forward raises becomes one line: it may be the user's own code."""
    try:
        yield
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"the {who} does not take images of {list(images.shape[1:])}: {reason}") from error


def _teacher(session: Session, findings: list[Finding]) -> dict[str, Any]:
    teaching = session.teaching
    assert teaching is not None
    classes = len(session.data.train.class_names)
    samples, where = _judged_on(session)
    teacher_logits, probe_logits, labels = _ask(session, samples)
    if teacher_logits.shape[1:] != (classes,):
        raise UserError(
            f"expected the teacher to return {classes} logits, one a class, but got {list(teacher_logits.shape[1:])}"
        )
    right = accuracy(teacher_logits, labels)
    # A perfect teacher cannot agree with labels that were made wrong on purpose.
    noise = 0.0 if samples.wrong is None else float(samples.wrong.mean())
    floor = 100 * min(5 / classes, (1 + 1 / classes) / 2) * (1 - noise)
    low = right < floor
    findings.append(
        Finding(
            "teacher",
            f"{right:.1f} % right on {len(labels)} {where} (chance {100 / classes:.1f} %)",
            "stop" if low else "",
            f"expected at least {floor:.1f} %: wrong weights, class order or normalisation?" if low else "",
        )
    )
    found: dict[str, Any] = {"images": len(labels), "on": where, "teacher_accuracy": right}
    if teaching.labels == "clean" and session.data.train.wrong is not None and session.data.train.wrong.any():
        advice = "it knows the true labels, which nobody with noisy labels does; prove nothing about noise by it"
        findings.append(Finding("the teacher's labels", "clean: an oracle", "note", advice))
    if probe_logits:
        found |= _probes(session, teacher_logits, probe_logits, labels, right, findings)
    return found


def _judged_on(session: Session) -> tuple[Samples, str]:
    """Held-out images where there are such, never the test images; and whether the teacher has seen them."""
    assert session.teaching is not None
    held = session.data.held_out
    seen = session.teaching.seen
    samples = session.data.train.labelled() if held is None else held
    if not len(samples):
        raise UserError(
            "expected images with labels to judge the teacher on, but there are none; give --data.held_out a share "
            "above 0"
        )
    # Evenly over all of them: a folder of images is in the order of its classes.
    count = min(len(samples), IMAGES)
    chosen = np.arange(count) * len(samples) // count
    known = {
        "none": "new to the teacher",
        "train": "seen by the teacher",
        "kept": "seen by the teacher" if held is None else "new to the teacher",
        "unknown": "perhaps seen by the teacher",
    }[seen]
    return samples.take(chosen), f"{'training' if held is None else 'held-out'} images, {known}"


def _ask(session: Session, samples: Samples) -> tuple[Tensor, list[Tensor], Tensor]:
    assert session.teaching is not None
    logits: list[Tensor] = []
    probes: list[tuple[Tensor, ...]] = []
    labels: list[Tensor] = []
    for images, given in plain_batches(samples, size=session.size):
        inputs = images.to(session.fabric.device)
        with _shown("teacher", inputs):
            out = session.teaching.teacher(inputs)
        if not bool(out.logits.isfinite().all()):
            row = int((~out.logits.isfinite().all(dim=1)).nonzero()[0])
            at = samples.ids[sum(len(x) for x in labels) + row]
            raise UserError(f"the teacher's logits are not finite, first for sample id {at}; use other weights")
        logits.append(out.logits.cpu())
        probes.append(tuple(p.cpu() for p in out.probe_logits))
        labels.append(given)
    return torch.cat(logits), [torch.cat(p) for p in zip(*probes, strict=True)], torch.cat(labels)


def _probes(
    session: Session,
    teacher_logits: Tensor,
    probe_logits: list[Tensor],
    labels: Tensor,
    right: float,
    findings: list[Finding],
) -> dict[str, Any]:
    assert session.teaching is not None
    tau = session.score.temperature if session.score.needs == "probe" else 1.0
    accuracies = {}
    for spec, logits in zip(session.teaching.specs, probe_logits, strict=True):
        accuracies[spec.name] = kept = accuracy(logits, labels)
        low = kept < right / 2
        advice = "under half of the teacher's: lower --probe.sparsity" if low else ""
        findings.append(Finding(f"probe {spec.name}", f"{kept:.1f} % right", "stop" if low else "", advice))
    distance = torch.stack([probe_distance(teacher_logits, p, temperature=tau) for p in probe_logits]).mean(dim=0)
    levels = torch.tensor([0.1, 0.5, 0.9])
    quantiles = torch.quantile(distance, levels).tolist()
    narrow = quantiles[2] < MIN_SPREAD
    findings.append(
        Finding(
            "distance, 10/50/90 %",
            " / ".join(f"{q:.2g}" for q in quantiles),
            "stop" if narrow else "",
            f"the 90 % quantile is below {MIN_SPREAD:g}: raise --probe.sparsity" if narrow else "",
        )
    )
    return {"probe_accuracy": accuracies, "distance_quantiles": quantiles}
