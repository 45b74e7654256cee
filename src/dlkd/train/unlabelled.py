"""Whether a method can learn from images without labels."""

from __future__ import annotations

from dlkd.data import Samples
from dlkd.errors import UserError
from dlkd.methods import Composition


def check_unlabelled(samples: Samples, method: Composition, name: str) -> None:
    """Refuse unlabelled images that the method ``name`` could not use; without such images nothing is refused.

    Raises:
        UserError: there is no teacher, or more than the label term looks at the labels.
    """
    if not samples.unlabelled:
        return
    found = f"{samples.unlabelled} of {len(samples)} training images have no label"
    if not method.needs_teacher:
        raise UserError(
            f"{found}, and without a teacher there is nothing to learn from them; leave --data.labelled and "
            "--data.unlabelled out, or use dlkd distill with a teacher"
        )
    if method.uses_labels:
        raise UserError(
            f"{found}, but method {name} needs that of every image: its distillation term is a function of the label, "
            "not the label term alone; use a method without, such as kd or dlkd"
        )
    if method.score is not None and method.score.needs == "label":
        raise UserError(
            f"{found}, but --loss.score {method.score.name} measures the difficulty of every image by it; use another"
        )
