"""Objects of this Python session under names that options can hold, as ``dlkd.notebook.given:student_0a1b2c3d``.

A run is described by options alone, so that it can be read, resumed and repeated. A module or a data set that only this
session knows gets a name here, which lasts as long as the session: whoever gives the same again gets the same name.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from dlkd.data.sources import Source
from dlkd.models import InputFormat

NAME = re.compile(r"(teacher|student|model|data)_[0-9a-f]{8}")
_GIVEN: dict[str, Callable[..., Any]] = {}


def given_model(module: nn.Module, input_format: InputFormat | None, role: str) -> str:
    """The name of a module; what is built under it is a copy, so that the user's own stays as it is.

    Args:
        module: normalised images → logits ``[B, classes]``.
        input_format: what it wants to see; by default images in [0, 1] as they are.
        role: ``teacher``, ``student`` or ``model``: two modules of one run may be of one architecture.
    """
    about = repr(module) + "".join(f"{key}{list(of.shape)}" for key, of in module.state_dict().items())

    def make(num_classes: int) -> nn.Module:
        return copy.deepcopy(module).cpu()

    make.input_format = input_format or InputFormat()  # type: ignore[attr-defined]
    return _named(role, about, make)


def given_data(train: Any, test: Any, class_names: tuple[str, ...] | None) -> str:
    """The name of a data set; see :func:`dlkd.data.sources.from_dataset`.

    Args:
        train, test: of (image, label); without test images a share of the others is set aside.
        class_names: by default those that the data set says, or numbers.
    """

    def make() -> Source:
        from dlkd.data.sources import from_dataset

        samples = from_dataset(train, class_names, "the training images")
        names = class_names or samples.class_names
        return Source(samples, None if test is None else from_dataset(test, names, "the test images"))

    sizes = [len(part) if hasattr(part, "__len__") else 0 for part in (train, test)]
    return _named("data", f"{sizes} {class_names}", make)


def _named(kind: str, about: str, make: Callable[..., Any]) -> str:
    name = f"{kind}_{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    _GIVEN[name] = make
    return f"{__name__}:{name}"


def __getattr__(name: str) -> Callable[..., Any]:
    if name in _GIVEN:
        return _GIVEN[name]
    if NAME.fullmatch(name):
        # Not the error of a name that was never there: of that nobody would be told what to do.
        raise ValueError(f"{name} was an object of another Python session; give it again")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
