"""Geometry: crop, flip, resize, and how a transform of one image becomes a pure function of the view key."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from dlkd.data.colour import Colour
from dlkd.data.pixels import picture
from dlkd.data.samples import Indices
from dlkd.data.view_key import Stream, draw_integer, view_key


@dataclass(frozen=True)
class CropFlip:
    """Zero-pad, crop back to size and mirror: a whole batch of small images at once.

    Args:
        pad: pixels on each side.
        flip: mirror half of the views; wrong for digits and text.
    """

    pad: int = 4
    flip: bool = True

    def __call__(self, images: Tensor, seed: int, ids: Indices, views: Indices) -> Tensor:
        """Views ``[B, channels, H, W]`` of ``images`` (same shape and type), whose sample numbers are ``ids``."""
        if not self.pad and not self.flip:
            return images
        height, width = images.shape[-2:]
        device, span = images.device, 2 * self.pad + 1

        def draw(stream: Stream, below: int) -> Tensor:
            return torch.from_numpy(draw_integer(below, seed, ids, views, stream)).to(device)[:, None]

        rows = draw(Stream.ROW, span) + torch.arange(height, device=device)
        columns = draw(Stream.COLUMN, span) + torch.arange(width, device=device)
        if self.flip:
            columns = torch.where(draw(Stream.FLIP, 2).bool(), columns.flip(1), columns)
        padded = functional.pad(images, (self.pad,) * 4)
        batch = torch.arange(images.shape[0], device=device)[:, None, None]
        # Advanced indices around a slice put the channel axis last.
        return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers."""
        return {"kind": "crop_flip", **asdict(self)}


class ImageTransform:
    """A transform of one image at a time, made a pure function of the view key by seeding what it draws from.

    torch's default generator, ``random`` and numpy's global state are seeded before each image and put
    back afterwards, so that nothing else that draws (the student's dropout) repeats.

    Args:
        transform: PIL image → tensor ``[3, H, W]`` in [0, 1].
        description: covered by the hash of the view family; must tell every setting.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], description: dict[str, object]) -> None:
        self.transform, self.description = transform, description

    def __call__(self, image: Image.Image, seed: int, sample: int, view: int) -> Tensor:
        """The view ``[3, H, W]`` of ``image``."""
        key = int(view_key(seed, sample, view, Stream.TRANSFORM))
        states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()
        # torch.manual_seed would also seed every other device, at two hundred times the cost.
        torch.default_generator.manual_seed(key)
        random.seed(key)
        np.random.seed(key)
        try:
            return self.transform(image)
        finally:
            torch.default_generator.set_state(states[0])
            random.setstate(states[1])
            np.random.set_state(states[2])

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers."""
        return self.description


@dataclass(frozen=True)
class ArrayAugment:
    """For images in memory: crop and flip of the whole batch, then a transform of each image.

    Args:
        crop: first.
        each: PIL image → tensor in [0, 1] of the same size, for what has no batched form.
    """

    crop: CropFlip
    each: ImageTransform

    def __call__(self, images: Tensor, seed: int, ids: Indices, views: Indices) -> Tensor:
        """Views ``[B, channels, H, W]`` of ``images``, uint8 as they are; grey images stay grey."""
        cropped = self.crop(images, seed, ids, views).cpu()
        one = [
            self.each(picture(image), seed, int(sample), int(view))
            for image, sample, view in zip(cropped, ids, views, strict=True)
        ]
        changed = (torch.stack(one) * 255).round().to(torch.uint8)
        # A policy works in colour; what it makes of three equal channels has three equal channels.
        return changed[:, : images.shape[1]].to(images.device)

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers."""
        return {"kind": "array", "crop": self.crop.describe(), "each": self.each.describe()}


def resized_crop_flip(
    size: int | tuple[int, int], *, scale: float = 0.25, flip: bool = True, colour: Colour | None = None
) -> ImageTransform:
    """Random-resized-crop to ``size`` with at least ``scale`` of the area, mirror half of the views, ``colour``."""
    steps: list[nn.Module] = [v2.RandomResizedCrop(size, scale=(scale, 1.0), antialias=True)]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    description: dict[str, object] = {"kind": "resized_crop_flip", "size": size, "scale": scale, "flip": flip}
    return _transform(steps, description, colour)


def centre_crop(size: int, *, colour: Colour | None = None) -> ImageTransform:
    """The plain view: short side to 8/7 of ``size``, then its centre (224 out of 256, as usual for ImageNet)."""
    steps: list[nn.Module] = [v2.Resize(round(size * 8 / 7), antialias=True), v2.CenterCrop(size)]
    return _transform(steps, {"kind": "centre_crop", "size": size}, colour)


def colour_only(colour: Colour) -> ImageTransform:
    """``colour`` alone, for images that are cropped already."""
    return _transform([], {"kind": "colour"}, colour)


def _transform(steps: list[nn.Module], description: dict[str, object], colour: Colour | None) -> ImageTransform:
    if colour is not None:
        steps, description = [*steps, *colour.steps()], {**description, "colour": colour.describe()}
    return ImageTransform(v2.Compose([*steps, *_TO_TENSOR]), description)


_TO_TENSOR = (v2.ToImage(), v2.ToDtype(torch.float32, scale=True))
