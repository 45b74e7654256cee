"""``dlkd export``: the student alone, for other programs, checked against it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from dlkd.errors import UserError, first_line
from dlkd.export.checked import Images, compared, run_images
from dlkd.export.folder import ExportFolder, export_folder
from dlkd.export.graph import to_onnx, to_torch_export
from dlkd.export.hub import config, model_card
from dlkd.export.int8 import quantise
from dlkd.export.latency import benchmark
from dlkd.export.options import ExportOptions
from dlkd.export.preprocessing import PREPROCESSING, Preprocessing
from dlkd.export.runners import Runner, onnx_runner, torch_export_runner, torch_runner
from dlkd.export.student import Student, read_student
from dlkd.export.table import print_export
from dlkd.files import write_atomic, write_json
from dlkd.jobs.card import machine
from dlkd.models import build_model, load_model, load_weights, save_student
from dlkd.models.trained import STUDENT_FILE

FILES = {
    "onnx": "model.onnx",
    "torch-export": "model.pt2",
    "safetensors": STUDENT_FILE,
    "hub-folder": "model.safetensors",
}
INT8 = "model.int8.onnx"


class _Export(NamedTuple):
    """One export on its way."""

    options: ExportOptions
    student: Student
    preprocessing: Preprocessing
    images: Images | None
    """None where nothing is to be looked at."""
    folder: ExportFolder

    @property
    def file(self) -> Path:
        return self.folder.staging / FILES[self.options.to]


def export(options: ExportOptions) -> dict[str, Any]:
    """Write the folder, print and return what is in ``export.json``.

    Raises:
        UserError: whatever the user can mend, in one line; or the exported file does not say what the student says.
    """
    options.check()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    student = read_student(options.run, options.name)
    preprocessing = student.preprocessing
    if options.preprocess == "in-graph":
        preprocessing = preprocessing.inside()
    with export_folder(options.out, student.file, overwrite=options.overwrite) as folder:
        images = None
        if options.check_images or options.int8 or options.benchmark:
            calibrated = options.calibration_images if options.int8 else 0
            images = run_images(student, options.data, options.split, options.check_images, calibrated)
        work = _Export(options, student, preprocessing, images, folder)
        _write_model(work)
        record = _record(work)
        _check(work, record)
        if options.int8:
            record["int8"] = _int8(work)
        if options.benchmark:
            record["benchmark"] = _benchmark(work)
        _write_beside(work, record)
        record["files"] = {f.name: f.stat().st_size for f in sorted(folder.staging.iterdir())}
        folder.publish(record)
    print_export(record, options.out)
    return record


def _write_model(work: _Export) -> None:
    student, file = work.student, work.file
    try:
        if work.options.to == "onnx":
            to_onnx(student.loaded.module, work.preprocessing, file)
        elif work.options.to == "torch-export":
            to_torch_export(student.loaded.module, work.preprocessing, file)
        elif work.options.to == "safetensors":
            save_student(
                file.parent,
                student.loaded.module.state_dict(),
                name=student.name,
                num_classes=len(student.class_names),
                channels=student.channels,
                input_format=student.loaded.input_format,
                class_names=student.class_names,
                card=student.loaded.card,
            )
        else:
            state = student.loaded.module.state_dict()
            # Copies: safetensors refuses tensors that share memory, as tied weights do.
            tensors = {key: value.contiguous().clone() for key, value in state.items()}
            write_atomic(file, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    except OSError as error:
        raise UserError(
            f"could not write to --out {work.options.out}: {first_line(error)}; is the disk full?"
        ) from error


def _record(work: _Export) -> dict[str, Any]:
    student, options = work.student, work.options
    return {
        "to": options.to,
        "model": student.name,
        "file": FILES[options.to],
        "preprocess": options.preprocess,
        "parameters": sum(p.numel() for p in student.loaded.module.parameters()),
        "weights": student.loaded.weights_hash,
        "check": None,
        **machine(),
    }


def _runner(work: _Export, file: Path) -> Runner:
    """What was written, read again."""
    student = work.student
    if file.suffix == ".onnx":
        return onnx_runner(file, work.preprocessing)
    if file.suffix == ".pt2":
        return torch_export_runner(file, work.preprocessing)
    classes, form = len(student.class_names), student.loaded.input_format
    if work.options.to == "safetensors":
        again = load_model(student.name, file, classes, channels=student.channels)
        return torch_runner(again.module, again.input_format)
    module = build_model(student.name, classes, channels=student.channels)
    load_weights(module, file, num_classes=classes)
    return torch_runner(module, form)


def _check(work: _Export, record: dict[str, Any]) -> None:
    """Compare student and file; a file that disagrees is kept aside.

    Raises:
        UserError: it does.
    """
    if work.images is None or not work.options.check_images:
        return
    student = torch_runner(work.student.loaded.module, work.student.loaded.input_format)
    found = compared(work.images, student, _runner(work, work.file), work.options.tolerance)
    record["check"] = found.to_dict()
    if found.agrees:
        return
    aside = work.folder.reject(FILES[work.options.to], record)
    raise UserError(
        f"the exported {FILES[work.options.to]} disagrees with the student: on {found.worst} a logit differs by "
        f"{found.max_difference:.3g}, and {found.allowed:.3g} is allowed; top-1 agreement is "
        f"{found.top1_agreement:.4g} %; the file is kept aside as {aside}, to be looked at and not used"
    )


def _int8(work: _Export) -> dict[str, Any]:
    assert work.images is not None
    file = work.folder.staging / INT8
    batches = (images for images, _ in work.images.batches(work.images.train))
    quantise(work.file, file, batches, work.preprocessing)
    found: dict[str, Any] = {
        "file": INT8,
        "calibration_images": len(work.images.train),
        "bytes": file.stat().st_size,
        "float_bytes": work.file.stat().st_size,
        "check": None,
    }
    if work.options.check_images:
        student = torch_runner(work.student.loaded.module, work.student.loaded.input_format)
        runner = onnx_runner(file, work.preprocessing)
        of = compared(work.images, student, runner, work.options.tolerance).to_dict()
        # Eight bits are another function: how good it is says its accuracy, and no bound on logits.
        found["check"] = {key: value for key, value in of.items() if key not in ("agrees", "allowed")}
    return found


def _benchmark(work: _Export) -> dict[str, Any]:
    assert work.images is not None
    int8 = (work.folder.staging / INT8, work.preprocessing) if work.options.int8 else None
    with tempfile.TemporaryDirectory() as folder:
        return benchmark(work.student, work.images, Path(folder), int8)


def _write_beside(work: _Export, record: dict[str, Any]) -> None:
    staging = work.folder.staging
    write_json(staging / PREPROCESSING, work.preprocessing.to_dict())
    if work.options.to == "hub-folder":
        write_json(staging / "config.json", config(work.student))
        write_atomic(staging / "README.md", model_card(work.student, work.options.license, record["check"]))
