"""What an augmentation does to colours and content: the published policies and jitter, torchvision's, seeded by key."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from torch import nn
from torchvision.transforms import AutoAugmentPolicy, v2

from dlkd.errors import UserError

Policy = Literal["none", "randaugment", "trivialaugment", "autoaugment", "augmix"]


@dataclass(frozen=True)
class Colour:
    """A policy and jitter, in this order; both work on one image in colour.

    Args:
        policy: ``randaugment`` (Cubuk et al. 2020), ``trivialaugment`` (Müller and Hutter 2021, wide), ``autoaugment``
            (Cubuk et al. 2019) or ``augmix`` (Hendrycks et al. 2020).
        ops: operations of randaugment.
        magnitude: of randaugment, 0 to 30.
        small: are the images small? autoaugment then uses the CIFAR-10 policy, else that of ImageNet.
        jitter: brightness, contrast and saturation change by up to this share, hue by a quarter of it.

    Raises:
        UserError: a value makes no sense.
    """

    policy: Policy = "none"
    ops: int = 2
    magnitude: int = 10
    small: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise UserError(f"expected a policy out of {', '.join(get_args(Policy))}, but got {self.policy!r}")
        if self.ops < 1 or not 0 <= self.magnitude <= 30:
            raise UserError(
                f"expected at least 1 operation of a magnitude in [0, 30], but got {self.ops} of {self.magnitude}"
            )
        if not 0 <= self.jitter <= 1:
            raise UserError(f"expected colour jitter to be in [0, 1], but got {self.jitter}")

    def steps(self) -> list[nn.Module]:
        """The transforms, of PIL images."""
        steps: list[nn.Module] = []
        if self.policy == "randaugment":
            steps.append(v2.RandAugment(self.ops, self.magnitude))
        elif self.policy == "trivialaugment":
            steps.append(v2.TrivialAugmentWide())
        elif self.policy == "autoaugment":
            steps.append(v2.AutoAugment(AutoAugmentPolicy.CIFAR10 if self.small else AutoAugmentPolicy.IMAGENET))
        elif self.policy == "augmix":
            steps.append(v2.AugMix())
        if self.jitter:
            j = self.jitter
            steps.append(v2.ColorJitter(j, j, j, j / 4))
        return steps

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers: what has an effect."""
        used = asdict(self)
        if self.policy != "randaugment":
            del used["ops"], used["magnitude"]
        if self.policy != "autoaugment":
            del used["small"]
        return used
