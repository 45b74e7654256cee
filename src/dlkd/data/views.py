"""From options to the augmented views of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dlkd.data.augment import ArrayAugment, CropFlip, ImageTransform, centre_crop, colour_only, resized_crop_flip
from dlkd.data.colour import Colour, Policy
from dlkd.data.erase import Erase, EraseFill, EraseKind
from dlkd.data.family import ViewFamily
from dlkd.data.load import DataSet
from dlkd.data.mixing import Mixing, MixingKind
from dlkd.data.samples import FilePixels, Samples
from dlkd.data.unused import refuse_unused
from dlkd.errors import UserError


@dataclass(frozen=True)
class ViewOptions:
    """How training images are augmented; teacher, probe and student see the same view.

    Attributes:
        augment: crop_flip for images in memory, resized_crop_flip, none, or auto (resized_crop_flip for files).
        pad: crop_flip pads so many pixels on each side; by default an eighth of the side.
        flip: mirror half of the views; by default yes, but for digits.
        scale: smallest share of the area that resized_crop_flip keeps.
        policy: randaugment, trivialaugment, autoaugment or augmix, after the crop.
        policy_ops: operations of randaugment.
        policy_magnitude: their strength, 0 to 30.
        jitter: change brightness, contrast and saturation by up to this share, and hue by a quarter of it.
        erase: cutout, random_erasing or none, the last before images mix.
        erase_size: side of cutout's square, as a share of the image's.
        erase_probability: of a view to be erased at all.
        erase_fill: with zero, or the mean of each channel of the image.
        mixing: none, mixup or cutmix.
        mixing_alpha: both parameters of the Beta distribution that the mixing share is drawn from.
        seed: of the views, and with it of their order and their partners; by default that of the run. Runs of other
            seeds that give one share a store.
        strong: policy of a second, strong view of every image, whose loss is added; auto is randaugment for methods
            of two views (mlkd) and none for others.
    """

    augment: Literal["auto", "none", "crop_flip", "resized_crop_flip"] = "auto"
    pad: int | None = None
    flip: bool | None = None
    scale: float = 0.25
    policy: Policy = "none"
    policy_ops: int = 2
    policy_magnitude: int = 10
    jitter: float = 0.0
    erase: EraseKind = "none"
    erase_size: float = 0.25
    erase_probability: float = 1.0
    erase_fill: EraseFill = "zero"
    mixing: MixingKind = "none"
    mixing_alpha: float = 1.0
    seed: int | None = None
    strong: Literal["auto"] | Policy = "auto"

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.pad is not None and self.pad < 0:
            raise UserError(f"expected --views.pad to be at least 0, but got {self.pad}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise UserError(f"expected --views.seed to be in [0, 2⁶³), but got {self.seed}")
        if not 0 < self.scale <= 1:
            raise UserError(f"expected --views.scale to be in (0, 1], but got {self.scale}")
        Mixing(self.mixing, self.mixing_alpha)
        self.colour(self.policy, small=False)
        self.eraser()

    def colour(self, policy: Policy, *, small: bool) -> Colour | None:
        """Policy and jitter; None where there is neither."""
        colour = Colour(policy, self.policy_ops, self.policy_magnitude, small, self.jitter)
        return colour if colour.steps() else None

    def eraser(self) -> Erase | None:
        """What is erased, if anything."""
        erase = Erase(self.erase, self.erase_size, self.erase_probability, self.erase_fill)
        return None if erase.kind == "none" else erase


def view_family(options: ViewOptions, data: DataSet, seed: int, size: int) -> ViewFamily:
    """The training views of a run of ``seed``; ``size`` is the side of images that come from files."""
    options.check()
    augment = _augment(options, data, size, options.policy)
    mixing = Mixing(options.mixing, options.mixing_alpha)
    seed = seed if options.seed is None else options.seed
    return ViewFamily(data.train, augment, mixing, seed, options.eraser())


def strong_family(options: ViewOptions, data: DataSet, seed: int, size: int) -> ViewFamily | None:
    """The strong views of weak/strong pairs; None where there are none. See :func:`view_family`."""
    if options.strong == "auto" or options.strong == "none":
        return None
    weak = view_family(options, data, seed, size)
    return replace(weak, augment=_augment(options, data, size, options.strong), strong=True)


def _augment(
    options: ViewOptions, data: DataSet, size: int, policy: Policy
) -> CropFlip | ArrayAugment | ImageTransform:
    files, kind = isinstance(data.train.pixels, FilePixels), options.augment
    flip = data.name != "digits" if options.flip is None else options.flip
    colour = options.colour(policy, small=not files)
    if kind == "auto":
        kind = "resized_crop_flip" if files else "crop_flip"
    refuse_unused(options, kind)
    if files:
        if kind == "crop_flip":
            raise UserError("expected --views.augment resized_crop_flip, none or auto for images that come from files")
        if kind == "none":
            return centre_crop(size, colour=colour)
        return resized_crop_flip(size, scale=options.scale, flip=flip, colour=colour)
    sides = image_size(data.train)
    if kind == "resized_crop_flip":
        each = resized_crop_flip(sides, scale=options.scale, flip=flip, colour=colour)
        return ArrayAugment(CropFlip(0, False), each)
    pad = max(1, min(sides) // 8) if options.pad is None else options.pad
    crop = CropFlip(0, False) if kind == "none" else CropFlip(pad, flip)
    return crop if colour is None else ArrayAugment(crop, colour_only(colour))


def image_size(samples: Samples) -> tuple[int, int]:
    """Height and width of images in memory; of files, which are resized, (0, 0)."""
    if isinstance(samples.pixels, FilePixels):
        return 0, 0
    height, width = samples.pixels.array.shape[-2:]
    return height, width
