"""The end of a run: the student on the test images, read now and never before, or on the held-out ones alone."""

from __future__ import annotations

from typing import Any, Literal

import torch

from dlkd.arrays import write_arrays
from dlkd.data import DataSet, FilePixels, Samples
from dlkd.evaluate import (
    agreement,
    by_level,
    check_finite,
    figures,
    kl_to_teacher,
    logits_of,
    memorised,
    mislabelled,
    reliability,
)
from dlkd.files import write_atomic, write_json
from dlkd.jobs.baseline import WORDS, against_baseline
from dlkd.jobs.card import PREDICTIONS, machine, trained_on
from dlkd.models import save_student
from dlkd.report import run_page
from dlkd.run_folder import MARKER, RESULTS
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session
from dlkd.train.trackers import end_tracking

Split = Literal["held_out", "test"]


def finish(session: Session, command: str) -> dict[str, Any]:
    """Write ``student.safetensors``, ``predictions.npz``, ``results.json`` and ``report.html``; returns the results."""
    data, student = session.data, session.evaluated()
    pixels = data.train.pixels
    results: dict[str, Any] = {
        "command": command,
        "method": {"name": session.method_name, **session.method_settings},
        "student": session.model.name,
        "parameters": sum(p.numel() for p in student.parameters()),
        "seed": session.options.seed,
        "epochs": session.history[-1]["epoch"],
        "weights": "moving average" if session.average is not None else "last epoch",
        "training": session.history[-1],
        "seconds": _seconds(session),
        "noise": None if data.noise is None else data.noise.to_dict(),
        "remarks": [*session.remarks, *_stopped_early(session)],
        **machine(),
    }
    answers: dict[str, Any] = {}
    results["images"] = {}
    logits = labels = torch.empty(0)
    parts: list[Split] = ["held_out"] if data.held_out is not None else []
    for part in dict.fromkeys([*parts, session.options.score_on]):  # those of the report come last
        samples = data.part(part)
        logits, labels = logits_of(student, samples, session.input_format, session.size)
        check_finite(logits, samples.ids, "trained student")
        results[part] = figures(logits, labels)
        if samples.wrong is not None and samples.wrong.any():
            results[f"{part}_clean"] = figures(logits, data.clean_of(samples))
        answers |= predictions(part, logits, samples, data)
        # By which whoever puts runs side by side knows that they were scored on the same images.
        results["images"][part] = samples.digest()
    results["reliability"] = [r._asdict() for r in reliability(logits, labels)]
    if noisy := mislabelled(data):
        results["memorisation"] = memorised(student, noisy, session.input_format, session.size)
    difficulty: dict[str, Any] | None = None
    if session.lessons is not None and session.teaching is not None:
        difficulty = _against_teacher(session, logits, labels, results, answers)
    if isinstance(session.options, DistillOptions) and session.options.with_baseline:
        results["baseline"] = against_baseline(session, answers)
    _save_predictions(session, answers)
    save_student(
        session.folder,
        student.state_dict(),
        name=session.model.name,
        num_classes=len(data.train.class_names),
        channels=pixels.channels,
        input_format=session.input_format,
        class_names=data.train.class_names,
        card={
            "trained_on": trained_on(session),
            "class_names": list(data.train.class_names),
            "image_size": session.size if isinstance(pixels, FilePixels) else max(pixels.array.shape[-2:]),
            # Of files nobody asks: they are resized and cropped.
            "image_shape": None if isinstance(pixels, FilePixels) else list(pixels.array.shape[-2:]),
            f"{session.options.score_on}_accuracy": results[session.options.score_on]["accuracy"],
        },
    )
    if session.options.engine.report:
        page = run_page(session.title, results, session.history, session.by_level, difficulty)
        write_atomic(session.folder / "report.html", page)
    # Last: a run with results is a finished run.
    write_json(session.folder / RESULTS, results)
    session.say(_sentence(results, session))
    if "baseline" in results:
        session.say(results["baseline"]["verdict"])
    end_tracking(session, [session.folder / name for name in (MARKER, RESULTS, "report.html")])
    return results


def _against_teacher(
    session: Session, logits: torch.Tensor, labels: torch.Tensor, results: dict[str, Any], answers: dict[str, Any]
) -> dict[str, Any] | None:
    """Add to ``results`` and ``answers`` what the teacher says; returns what the report shows of difficulty, if it is
    known."""
    teaching, lessons, part = session.teaching, session.lessons, session.options.score_on
    assert teaching is not None and lessons is not None
    lesson = lessons.plain(session.scored, session.size)
    confidence, said = torch.softmax(lesson.logits.double(), dim=1).max(dim=1)
    answers |= {f"{part}_teacher": said.numpy(), f"{part}_teacher_confidence": confidence.float().numpy()}
    results["teacher"] = {
        part: figures(lesson.logits, labels),
        "seen": teaching.seen,
        "labels": teaching.labels,
        "oracle": teaching.labels == "clean" and session.data.noise is not None,
        "probes": [s.name for s in teaching.specs],
    }
    results["agreement"] = agreement(logits, lesson.logits)
    results["kl_to_teacher"] = kl_to_teacher(logits, lesson.logits)
    if session.level is None or not session.level.calibrated:
        return None
    distance = session.difficulty(lesson, labels, session.scored.ids)
    level = session.level(distance.to(session.fabric.device)).cpu()
    results["by_level"] = by_level(logits, labels, level, lesson.logits)
    mapping = getattr(session.method.temperature, "mapping", None)
    answers |= {f"{part}_distance": distance.float().cpu().numpy(), f"{part}_level": level.numpy()}
    # Shuffled, a temperature is that of another image.
    if mapping is not None and not getattr(session.method.temperature, "shuffled", False):
        temperature = mapping(level.to(session.fabric.device))
        answers[f"{part}_temperature"] = temperature.detach().float().cpu().numpy()
    # At evenly spaced ranks of the reference, whatever the level makes of them.
    curve = session.level(session.level.quantiles)
    return {
        "distance": distance.tolist(),
        "temperature": None if mapping is None else mapping(curve).tolist(),
        "reference": session.level.quantiles.tolist(),
    }


def _stopped_early(session: Session) -> list[str]:
    last, rows = session.history[-1]["epoch"], session.history
    if last == session.epochs:
        return []
    best = max((row for row in rows if "held_out_accuracy" in row), key=lambda row: row["held_out_accuracy"])
    return [
        f"stopped after epoch {last} of {session.epochs}, since the held-out accuracy had not risen above the "
        f"{best['held_out_accuracy']:.2f} % of epoch {best['epoch']}; the learning rate was on its way for all of them"
    ]


def _seconds(session: Session) -> float:
    """Of training, whatever was stopped and resumed; evaluation and start are not in it."""
    images = session.steps.per_epoch * session.steps.batch_size
    return float(sum(images / row["images_per_second"] for row in session.history if row.get("images_per_second")))


def predictions(part: str, logits: torch.Tensor, samples: Samples, data: DataSet) -> dict[str, Any]:
    """What the student says of each image, for whoever compares runs image by image."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    found = {"ids": samples.ids, "labels": samples.labels.numpy(), "predicted": predicted.numpy()}
    if samples.wrong is not None:
        found["clean"] = data.clean_of(samples).numpy()
    return {f"{part}_{name}": value for name, value in (found | {"confidence": confidence.float().numpy()}).items()}


def _save_predictions(session: Session, answers: dict[str, Any]) -> None:
    write_arrays(session.folder / PREDICTIONS, answers, compressed=True)


def _sentence(results: dict[str, Any], session: Session) -> str:
    part = session.options.score_on
    of, words = results[part], WORDS[part]
    line = f"{session.title}: {of['accuracy']:.2f} % of {len(session.scored)} {words} images, calibration error "
    line += f"{of['ece']:.1f} %"
    if "teacher" in results:
        line += f"; teacher {results['teacher'][part]['accuracy']:.2f} %"
    return f"{line}. {session.folder / RESULTS}"
