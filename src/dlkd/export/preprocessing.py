"""From a picture to the input of an exported model, written down for whoever runs it without us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

import dlkd
from dlkd.errors import UserError, first_line
from dlkd.models.input_format import MAX_SIDE, InputFormat
from dlkd.regular import read_regular

PREPROCESSING = "preprocessing.json"
"""The file beside an exported model."""
INPUT, OUTPUT = "images", "logits"
"""Names in the graph."""
LARGEST = 1 << 26
"""Bytes of that file, and pixels of a picture after it is resized."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before the model sees it, and what its outputs are called.

    Args:
        class_names: of the outputs, in order.
        channels: 1 for grey, 3 for colour.
        resize: the short side in pixels, or height and width.
        crop: height and width of the centre that is kept.
        input_format: what follows on images in [0, 1].
        in_graph: the model does that itself.
    """

    class_names: tuple[str, ...]
    channels: int
    resize: tuple[int, ...]
    crop: tuple[int, int]
    input_format: InputFormat
    in_graph: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"expected pictures of 1 or 3 channels, but got {self.channels}")
        if not self.class_names:
            raise ValueError("expected the names of the classes, but found none")
        if len(self.resize) not in (1, 2) or len(self.crop) != 2:
            raise ValueError("expected one or two sides to resize to, and two to crop to")
        if not all(1 <= side <= MAX_SIDE for side in (*self.resize, *self.crop)):
            raise ValueError(f"expected sides of 1 to {MAX_SIDE} pixels, but got {self.resize} and {self.crop}")
        mean = self.input_format.mean
        if mean is not None and len(mean) != self.channels:
            raise ValueError(f"expected a mean for each of {self.channels} channels, but got {len(mean)}")

    @property
    def input_sides(self) -> tuple[int, int]:
        """Height and width of what the model is given."""
        side = self.input_format.resolution
        return self.crop if side is None or self.in_graph else (side, side)

    def image(self, picture: Image.Image) -> Tensor:
        """The image ``[channels, H, W]`` in [0, 1] of a picture in RGB.

        Raises:
            ValueError: so long and thin that its short side cannot be brought to size within memory.
        """
        short, long = sorted(picture.size)
        if len(self.resize) == 1 and long * self.resize[0] ** 2 > LARGEST * short:
            raise ValueError(f"{picture.size[0]} × {picture.size[1]} pixels are too long and thin")
        if self.channels == 1:
            picture = picture.convert("L")
        found: Tensor = self._steps(picture)
        return found.as_subclass(Tensor)

    @property
    def _steps(self) -> v2.Compose:
        steps: list[nn.Module] = [v2.Resize(list(self.resize), antialias=True), v2.CenterCrop(list(self.crop))]
        return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def batch(self, images: Tensor) -> Tensor:
        """What the model is given, out of images ``[B, channels, H, W]`` in [0, 1]."""
        return images if self.in_graph else self.input_format(images)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :func:`read_preprocessing` reads them."""
        form = self.input_format
        height, width = self.input_sides
        resize = dict(zip(("height", "width"), self.resize, strict=True)) if len(self.resize) == 2 else {}
        return {
            "format": 1,
            "made_by": f"dlkd {dlkd.__version__}",
            "class_names": list(self.class_names),
            "input": {
                "name": INPUT,
                "layout": "NCHW",
                "dtype": "float32",
                "shape": ["batch", self.channels, height, width],
                "colour": "grey" if self.channels == 1 else "RGB",
            },
            "output": {"name": OUTPUT, "shape": ["batch", len(self.class_names)], "are": "logits, before softmax"},
            "upright": "turned as its EXIF orientation says",
            "resize": resize or {"short_side": self.resize[0]},
            "centre_crop": {"height": self.crop[0], "width": self.crop[1]},
            "interpolation": "bilinear, antialiased",
            "scale": "1/255",
            "then": {**form.to_dict(), "in_graph": self.in_graph},
        }

    def inside(self) -> Preprocessing:
        """The same, for a model that applies its input format itself."""
        return replace(self, in_graph=True)


def _parsed(values: Any) -> Preprocessing:
    if not isinstance(values, dict) or "class_names" not in values or "then" not in values:
        raise ValueError("it does not describe a model")
    if values.get("format") != 1:
        raise ValueError(f"expected format 1, but got {values.get('format')!r}; update dlkd")
    then, resize, crop = dict(values["then"]), dict(values["resize"]), dict(values["centre_crop"])
    sides = [resize["short_side"]] if "short_side" in resize else [resize["height"], resize["width"]]
    in_graph = then.pop("in_graph")
    shape = values["input"]["shape"]
    if not isinstance(in_graph, bool) or not isinstance(values["class_names"], list):
        raise ValueError("a value of it is of the wrong kind")
    (channels,) = _whole([shape[1]])
    return Preprocessing(
        tuple(map(str, values["class_names"])),
        channels,
        _whole(sides),
        _pair(_whole([crop["height"], crop["width"]])),
        InputFormat.from_dict(then),
        in_graph,
    )


def _whole(values: Sequence[Any]) -> tuple[int, ...]:
    if any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise ValueError(f"expected whole numbers, but got {values!r:.80}")
    return tuple(values)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


def read_preprocessing(folder: Path) -> Preprocessing:
    """The file beside a model.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / PREPROCESSING
    if not file.exists():
        raise UserError(
            f"expected {PREPROCESSING} beside the model, in {folder}, but there is none; "
            "it says what the model wants to see: copy it from where the model was exported"
        )
    try:
        return _parsed(json.loads(read_regular(file, LARGEST)))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{file} is damaged ({reason}); export the model again") from error
