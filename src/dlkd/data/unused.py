"""Settings of views that were given and would do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlkd.errors import UserError

if TYPE_CHECKING:
    from dlkd.data.views import ViewOptions


def refuse_unused(options: ViewOptions, kind: str) -> None:
    """Refuse a setting that is not at its default and has no effect beside the others.

    Args:
        options: ``strong`` still ``auto`` may become randaugment.
        kind: what ``augment`` came to.

    Raises:
        UserError: there is one.
    """
    randaugment = {"randaugment", "auto"} & {options.policy, options.strong}
    policy = ("policy", "or --views.strong randaugment", bool(randaugment))
    erase = ("erase", "cutout or random_erasing", options.erase != "none")
    wanted = {
        "pad": ("augment", "crop_flip", kind == "crop_flip"),
        # flip=False with no augmentation is what happens anyhow.
        "flip": ("augment", "crop_flip or resized_crop_flip", kind != "none" or not options.flip),
        "scale": ("augment", "resized_crop_flip", kind == "resized_crop_flip"),
        "policy_ops": policy,
        "policy_magnitude": policy,
        "erase_size": ("erase", "cutout", options.erase == "cutout"),
        "erase_probability": erase,
        "erase_fill": erase,
        "mixing_alpha": ("mixing", "mixup or cutmix", options.mixing != "none"),
    }
    default = type(options)()
    for name, (option, values, used) in wanted.items():
        if not used and getattr(options, name) != getattr(default, name):
            found = kind if option == "augment" else getattr(options, option)
            raise UserError(
                f"expected --views.{option} {values} with --views.{name}, but got {found}; leave --views.{name} out"
            )
