"""Exported files, read again and asked about images as their users will ask them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkd.errors import UserError, first_line
from dlkd.export.graph import need_onnx
from dlkd.export.preprocessing import INPUT, OUTPUT, Preprocessing
from dlkd.models import InputFormat

Runner = Callable[[Tensor], Tensor]
"""Images ``[B, channels, H, W]`` in [0, 1] → logits ``[B, C]``, fp32 on the CPU."""


def torch_runner(module: nn.Module, form: InputFormat, device: torch.device | None = None) -> Runner:
    """A model of torch in eval mode, without gradients."""
    module = module.to(device).eval()

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = module(form(images.to(device)))
        return logits.float().cpu()

    return run


def torch_export_runner(file: Path, preprocessing: Preprocessing) -> Runner:
    """A ``.pt2`` file."""
    # Never told to run in eval mode: it is a graph of it.
    module = torch.export.load(file).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(preprocessing.batch(images))
        return logits.float()

    return run


def onnx_session(file: Path, threads: int | None = None) -> Any:
    """An ONNX file in ONNX Runtime, on the CPU.

    Raises:
        UserError: ONNX Runtime is not installed, or cannot read the file.
    """
    need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own, which share no base
        raise UserError(f"{file} is damaged or no ONNX model: {first_line(error):.200}") from error


def onnx_runner(file: Path, preprocessing: Preprocessing, threads: int | None = None) -> Runner:
    """An ONNX file, if it is one that ``preprocessing`` describes.

    Raises:
        UserError: it is not, or is damaged, or ONNX Runtime is not installed.
    """
    session = onnx_session(file, threads)
    _check_described(file, session, preprocessing)

    def run(images: Tensor) -> Tensor:
        given = preprocessing.batch(images).contiguous().numpy()
        return torch.from_numpy(session.run([OUTPUT], {INPUT: given})[0]).float()

    return run


def _check_described(file: Path, session: Any, preprocessing: Preprocessing) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    wanted: tuple[list[Any], list[Any]] = (
        [INPUT, preprocessing.channels, *preprocessing.input_sides],
        [OUTPUT, len(preprocessing.class_names)],
    )
    found = tuple([v for each in side for v in (each.name, *each.shape[1:])] for side in (inputs, outputs))
    if found != wanted:
        raise UserError(
            f"the JSON file beside {file} is of another model: expected {_words(wanted)}, but found {_words(found)}; "
            "copy both files from the same export"
        )


def _words(sides: tuple[list[Any], ...]) -> str:
    return " → ".join(f"{side[0] if side else 'nothing'} {side[1:]}" for side in sides)
