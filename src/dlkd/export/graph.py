"""The student as a graph that runs without its code: ONNX, or a file of torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlkd.errors import UserError, first_line
from dlkd.export.preprocessing import INPUT, OUTPUT, Preprocessing
from dlkd.models import InputFormat

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class WithInputFormat(nn.Module):
    """A model behind its own input format: images ``[B, C, H, W]`` in [0, 1] → logits.

    :class:`dlkd.models.InputFormat` keeps its columns from call to call, and what a tracer calls with must not be kept.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, model: nn.Module, form: InputFormat) -> None:
        super().__init__()
        self.model, self.resolution = model, form.resolution
        for name, values in (("mean", form.mean), ("std", form.std)):
            self.register_buffer(name, None if values is None else torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See :meth:`dlkd.models.InputFormat.__call__`."""
        x = images
        if self.resolution is not None and x.shape[-2:] != (self.resolution, self.resolution):
            x = functional.interpolate(x, size=(self.resolution,) * 2, mode="bilinear", antialias=True)
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        logits: Tensor = self.model(x)
        return logits


class _Plain(nn.Module):
    """A model with one input, called as the exported one is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


def need_onnx(what: str = "an ONNX file") -> None:
    """Refuse what needs libraries that are not installed.

    Raises:
        UserError: one of them is not.
    """
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        raise UserError(f"{what} needs {', '.join(missing)}: pip install 'dlkd[onnx]'")


def to_onnx(model: nn.Module, preprocessing: Preprocessing, file: Path) -> None:
    """Write ``model`` for any number of images at once; with its input format, where that is to be in the graph.

    Raises:
        UserError: the model does what a graph cannot.
    """
    module, example = _traced(model, preprocessing)
    with quietly(), _explained(model):
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: "batch"},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        # One file: a graph and its weights that travel apart get lost.
        program.save(str(file), external_data=False)


def to_torch_export(model: nn.Module, preprocessing: Preprocessing, file: Path) -> None:
    """Write ``model`` as a ``.pt2`` file of torch.export; see :func:`to_onnx`.

    Raises:
        UserError: the model does what a graph cannot.
    """
    module, example = _traced(model, preprocessing)
    with quietly(), _explained(model), torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, file)


def _traced(model: nn.Module, preprocessing: Preprocessing) -> tuple[nn.Module, Tensor]:
    """What is traced, and images to trace it with: two, since one is a special case to torch.export."""
    module = WithInputFormat(model, preprocessing.input_format) if preprocessing.in_graph else _Plain(model)
    # Eval as a whole: the parts are, but a new module is not.
    return module.eval(), torch.zeros(2, preprocessing.channels, *preprocessing.input_sides)


@contextlib.contextmanager
def _explained(model: nn.Module) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of a dozen kinds, some with pages of a trace
        if isinstance(error, OSError):
            raise
        cause = error.__cause__ or error
        raise UserError(
            f"{type(model).__name__} could not be made a graph ({type(cause).__name__}: {first_line(cause):.200}); "
            "export --to safetensors instead, or change what it does by the values that it is given"
        ) from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what exporters say to programmers, as whole graphs on standard error."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
