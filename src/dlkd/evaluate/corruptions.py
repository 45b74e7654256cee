"""Common corruptions at five severities: torchvision's transforms at any size, ImageNet-C's own from 32 pixels up."""

from __future__ import annotations

import difflib
import io
import math
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dlkd.data import ArrayPixels, ImageTransform, Samples, plain_batches
from dlkd.data.samples import Indices
from dlkd.errors import first_line
from dlkd.evaluate.logits import asleep

SEVERITIES = (1, 2, 3, 4, 5)
IMAGENET_C = "imagenet-c"
IMAGENET_C_NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen of Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019."""
_SMALLEST = 32  # what the library of ImageNet-C takes
_ELASTIC_RMS = 0.5 / math.sqrt(3) / (2 * math.sqrt(math.pi))  # of uniform noise, blurred, in half pixels of alpha


class Corruption(NamedTuple):
    """One way to spoil an image, in five strengths that do not depend on its size."""

    strengths: tuple[float, ...]
    apply: Callable[[Tensor, float], Tensor]
    """uint8 ``[…, channels, H, W]`` and strength → the same shape, uint8 or fp32 in [0, 1]."""
    alone: bool = False
    """One image at a time, since it draws, or since its coder takes one."""


def _noise(image: Tensor, sigma: float) -> Tensor:
    noisy: Tensor = functional.gaussian_noise(functional.to_dtype(image, torch.float32, scale=True), sigma=sigma)
    return noisy


def _blur(image: Tensor, share: float) -> Tensor:
    side = min(image.shape[-2:])
    radius = min(math.ceil(3 * share * side), side - 1)
    blurred: Tensor = functional.gaussian_blur(image, 2 * radius + 1, share * side)
    return blurred


def _pixelate(image: Tensor, share: float) -> Tensor:
    height, width = image.shape[-2:]
    small = functional.resize(image, [max(1, round(share * height)), max(1, round(share * width))], antialias=True)
    coarse: Tensor = functional.resize(small, [height, width], interpolation=v2.InterpolationMode.NEAREST_EXACT)
    return coarse


def _jpeg(image: Tensor, quality: float) -> Tensor:
    # Pillow's coder: torchvision's own is on its way out.
    file = io.BytesIO()
    functional.to_pil_image(image).save(file, "JPEG", quality=int(quality))
    coded: Tensor = functional.pil_to_tensor(Image.open(file))
    return coded


def _elastic(image: Tensor, share: float) -> Tensor:
    side = min(image.shape[-2:])
    sigma = side / 16
    warped: Tensor = v2.ElasticTransform(alpha=share * side * sigma / _ELASTIC_RMS, sigma=sigma)(image)
    return warped


CORRUPTIONS = {
    "gaussian_noise": Corruption((0.02, 0.04, 0.06, 0.08, 0.12), _noise, alone=True),
    "gaussian_blur": Corruption((0.014, 0.018, 0.024, 0.032, 0.044), _blur),
    "pixelate": Corruption((0.88, 0.76, 0.64, 0.5, 0.38), _pixelate),
    "elastic": Corruption((0.005, 0.01, 0.02, 0.03, 0.04), _elastic, alone=True),
    "jpeg": Corruption((80, 60, 40, 25, 15), _jpeg, alone=True),
    "posterize": Corruption((5, 4, 3, 2, 1), lambda image, bits: functional.posterize(image, int(bits))),
    "contrast": Corruption((0.75, 0.6, 0.45, 0.3, 0.15), functional.adjust_contrast),
    "brightness": Corruption((1.2, 1.4, 1.6, 1.8, 2.0), functional.adjust_brightness),
    "darkness": Corruption((0.8, 0.6, 0.45, 0.3, 0.2), functional.adjust_brightness),
}
"""With strengths of our own, which are not those of ImageNet-C."""


def parse_corruptions(text: str) -> tuple[str, ...]:
    """Names out of ``none``, ``all`` (of :data:`CORRUPTIONS`), ``imagenet-c`` (its fifteen), or a list with commas.

    Raises:
        ValueError: an unknown name.
    """
    groups = {"none": (), "all": tuple(CORRUPTIONS), IMAGENET_C: tuple(f"{IMAGENET_C}:{n}" for n in IMAGENET_C_NAMES)}
    known = {**groups, **{name: (name,) for name in (*CORRUPTIONS, *groups[IMAGENET_C])}}
    names: list[str] = []
    for item in text.split(","):
        if (name := item.strip()) not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"expected corruptions out of all, none, {IMAGENET_C}, {', '.join(CORRUPTIONS)} or {IMAGENET_C}:NAME, "
                f"but got {name!r}" + (f"; did you mean {near[0]}?" if near else "")
            )
        names += known[name]
    return tuple(dict.fromkeys(names))


def parse_severities(text: str) -> tuple[int, ...]:
    """Severities out of a list with commas.

    Raises:
        ValueError: one is no whole number from 1 to 5, or is there twice.
    """
    items = [item.strip() for item in text.split(",")]
    if len(set(items)) < len(items) or not set(items) <= {str(s) for s in SEVERITIES}:
        raise ValueError(f"expected severities as different whole numbers from 1 to 5, like 1,3,5, but got {text!r}")
    return tuple(sorted(int(item) for item in items))


def check_corruptions(names: Sequence[str], side: int | None = None) -> None:
    """Say at once what is missing for ``names`` on images whose shorter side has ``side`` pixels.

    Raises:
        ValueError: an older torchvision, no library of ImageNet-C, or images too small for it.
    """
    if names and not hasattr(functional, "gaussian_noise"):
        raise ValueError("corruptions need torchvision 0.20 or newer: pip install --upgrade torch torchvision")
    if not any(name.startswith(IMAGENET_C) for name in names):
        return
    _library()
    if side is not None and side < _SMALLEST:
        raise ValueError(
            f"expected images of at least {_SMALLEST} pixels a side for the corruptions of {IMAGENET_C}, but got "
            f"{side}; take others, as of --corruptions all"
        )


def _library() -> Any:
    try:
        # By its full name: an older package of the same module does not run on today's scikit-image.
        metadata.version("imagecorruptions-imaug")
        return import_module("imagecorruptions")
    except ImportError as error:
        raise ValueError(
            f"the corruptions of {IMAGENET_C} need imagecorruptions-imaug ({first_line(error)}): "
            "pip install 'dlkd[corruptions]', or take others, as of --corruptions all"
        ) from error


def corruption(name: str, severity: int) -> ImageTransform:
    """The corruption as a pure function of (image, seed, sample).

    Args:
        name: of :data:`CORRUPTIONS`, or ``imagenet-c:NAME``.
        severity: 1 to 5.
    """
    kind, _, own = name.partition(":")

    def change(image: Image.Image) -> Tensor:
        if kind == IMAGENET_C:
            return _imagenet_c(image, own, severity)
        return _apply(name, severity, functional.pil_to_tensor(image))

    return ImageTransform(change, {"kind": name, "severity": severity})


def _apply(name: str, severity: int, images: Tensor) -> Tensor:
    spoil, strength = CORRUPTIONS[name].apply, CORRUPTIONS[name].strengths[severity - 1]
    spoilt: Tensor = functional.to_dtype(spoil(images, strength), torch.float32, scale=True)
    return spoilt


def corrupted(images: Tensor, name: str, severity: int, seed: int, ids: Indices) -> Tensor:
    """Images ``[B, channels, H, W]``, uint8 on the CPU, spoilt: fp32 in [0, 1]. Each depends on (seed, number of the
    sample, corruption, severity) alone; ``ids`` are the numbers ``[B]``."""
    if name in CORRUPTIONS and not CORRUPTIONS[name].alone:
        return _apply(name, severity, images)
    change, view = corruption(name, severity), zlib.crc32(f"{name}/{severity}".encode())
    plain = (functional.to_pil_image(image) for image in images)
    return torch.stack([change(image, seed, int(i), view) for image, i in zip(plain, ids, strict=True)])


def _imagenet_c(image: Image.Image, name: str, severity: int) -> Tensor:
    # These two draw from generators of their own.
    seed = {"seed": int(np.random.randint(2**31))} if name in ("impulse_noise", "glass_blur") else {}
    out = _library().corrupt(np.asarray(image), severity, name, **seed)
    # Of grey images it makes colour ones.
    return torch.from_numpy(out.copy()).permute(2, 0, 1)[: len(image.getbands())].float() / 255


def accuracy_under(
    model: nn.Module,
    samples: Samples,
    input_format: Callable[[Tensor], Tensor],
    names: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    size: int | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Accuracy in per cent under each corruption, by severity.

    The plain view of an image, as the model would see it, is rounded to 8 bits and spoilt, which depends on (seed,
    sample, corruption, severity) and nothing else; then the model's own format is applied.

    Args:
        model: images → logits, on any device; its modes are put back.
        samples: all with labels.
        input_format: from images in [0, 1] to what the model wants to see.
        names: see :func:`corruption`.
        severities: out of 1 to 5.
        size: side in pixels of images that come from files.
        seed: of what is random.

    Raises:
        ValueError: see :func:`check_corruptions`.
    """
    pixels = samples.pixels
    check_corruptions(names, min(pixels.array.shape[-2:]) if isinstance(pixels, ArrayPixels) else size or 224)
    right = {(name, severity): 0 for name in names for severity in severities}
    start = 0
    with asleep(model) as device:
        for images, labels in plain_batches(samples, size=size):
            ids = samples.ids[start : start + len(labels)]
            start += len(labels)
            plain = (images.cpu() * 255).round().to(torch.uint8)
            for name, severity in right:
                spoilt = corrupted(plain, name, severity, seed, ids)
                said = model(input_format(spoilt.to(device))).argmax(dim=1).cpu()
                right[name, severity] += int((said == labels).sum())
    return {name: [100 * right[name, severity] / len(samples) for severity in severities] for name in names}
