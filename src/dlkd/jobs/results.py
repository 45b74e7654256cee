"""The end of a run: the student on the test images, read now and never before."""

from __future__ import annotations

from typing import Any

import torch

from dlkd.data import FilePixels
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
from dlkd.jobs.card import machine, trained_on
from dlkd.models import save_student
from dlkd.report import run_page
from dlkd.train.session import Session


def finish(session: Session, command: str) -> dict[str, Any]:
    """Write ``student.safetensors``, ``results.json`` and ``report.html``; returns the results."""
    data, student = session.data, session.evaluated()
    pixels = data.train.pixels
    results: dict[str, Any] = {
        "command": command,
        "method": {"name": session.method_name, **session.method_settings},
        "student": session.model.name,
        "parameters": sum(p.numel() for p in student.parameters()),
        "seed": session.options.seed,
        "epochs": session.options.epochs,
        "weights": "moving average" if session.average is not None else "last epoch",
        "training": session.history[-1],
        "noise": None if data.noise is None else data.noise.to_dict(),
        "remarks": session.remarks,
        **machine(),
    }
    if data.held_out is not None:
        logits, labels = logits_of(student, data.held_out, session.input_format, session.size)
        results["held_out"] = figures(logits, labels)
    logits, labels = logits_of(student, data.test, session.input_format, session.size)
    check_finite(logits, data.test.ids, "trained student")
    results["test"] = figures(logits, labels)
    results["reliability"] = [r._asdict() for r in reliability(logits, labels)]
    if noisy := mislabelled(data):
        results["memorisation"] = memorised(student, noisy, session.input_format, session.size)
    difficulty: dict[str, Any] | None = None
    if session.lessons is not None and session.teaching is not None:
        difficulty = _against_teacher(session, logits, labels, results)
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
            "test_accuracy": results["test"]["accuracy"],
        },
    )
    if session.options.engine.report:
        page = run_page(session.title, results, session.history, session.by_level, difficulty)
        write_atomic(session.folder / "report.html", page)
    # Last: a run with results is a finished run.
    write_json(session.folder / "results.json", results)
    session.say(_sentence(results, session))
    return results


def _against_teacher(
    session: Session, logits: torch.Tensor, labels: torch.Tensor, results: dict[str, Any]
) -> dict[str, Any] | None:
    teaching, lessons = session.teaching, session.lessons
    assert teaching is not None and lessons is not None
    lesson = lessons.plain(session.data.test, session.size)
    results["teacher"] = {
        "test": figures(lesson.logits, labels),
        "seen": teaching.seen,
        "labels": teaching.labels,
        "oracle": teaching.labels == "clean" and session.data.noise is not None,
        "probes": [s.name for s in teaching.specs],
    }
    results["agreement"] = agreement(logits, lesson.logits)
    results["kl_to_teacher"] = kl_to_teacher(logits, lesson.logits)
    if session.level is None or not session.level.calibrated:
        return None
    distance = session.difficulty(lesson, labels, session.data.test.ids)
    level = session.level(distance.to(session.fabric.device)).cpu()
    results["by_level"] = by_level(logits, labels, level, lesson.logits)
    mapping = getattr(session.method.temperature, "mapping", None)
    # At evenly spaced ranks of the reference, whatever the level makes of them.
    curve = session.level(session.level.quantiles)
    return {
        "distance": distance.tolist(),
        "temperature": None if mapping is None else mapping(curve).tolist(),
        "reference": session.level.quantiles.tolist(),
    }


def _sentence(results: dict[str, Any], session: Session) -> str:
    test = results["test"]
    line = f"{session.title}: {test['accuracy']:.2f} % of {len(session.data.test)} test images, calibration error "
    line += f"{test['ece']:.1f} %"
    if "teacher" in results:
        line += f"; teacher {results['teacher']['test']['accuracy']:.2f} %"
    return f"{line}. {session.folder / 'results.json'}"
