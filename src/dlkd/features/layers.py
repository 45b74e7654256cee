"""Which layers teach, where the user does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from dlkd.features.tap import Seen, channels_first, look, tensors_of

FeatureLoss = Literal["fitnet", "at", "rkd"]


class Stage(NamedTuple):
    """A layer that could teach or learn."""

    path: str
    """Its name in ``module.named_modules()``."""
    shape: tuple[int, ...]
    """Of its features without the batch: ``[D]``, ``[N, D]`` or ``[C, H, W]``."""


class LayerPairs(NamedTuple):
    """Layers that are compared one by one."""

    student: list[Stage]
    teacher: list[Stage]


def default_layers(loss: FeatureLoss, student: Sequence[Stage], teacher: Sequence[Stage]) -> LayerPairs:
    """Which of the stages (:func:`stages`) of both models are compared: mdistiller's choice, but for what is named.

    - fitnet: the middle stage of each: the second of three, the second of four;
    - at: all stages where both have as many; else, **our choice**, the last of each (mdistiller pairs them from the
      first on and drops the rest). Without those that have one position;
    - rkd: the last stage of each, of which it takes the mean over the positions. mdistiller takes what enters the
      classifier, which is another tensor in wide ResNets (a norm and a ReLU later), MobileNetV2 and ShuffleNetV2 (a
      convolution later): **our choice** there.

    Raises:
        ValueError: attention, and a model has no layer with several positions.
    """
    if loss == "fitnet":
        return LayerPairs([student[(len(student) - 1) // 2]], [teacher[(len(teacher) - 1) // 2]])
    if loss == "rkd":
        return LayerPairs([student[-1]], [teacher[-1]])
    s, t = ([stage for stage in found if positions(stage.shape) > 1] for found in (student, teacher))
    if not s or not t:
        who = "teacher" if s else "student"
        raise ValueError(f"expected a layer of the {who} with several positions for attention, but there is none")
    return LayerPairs(s, t) if len(s) == len(t) else LayerPairs(s[-1:], t[-1:])


def stages(module: nn.Module, example: Tensor) -> list[Stage]:
    """The stages of a model, from its first to its last; never empty. The first rule that applies:

    1. the children ``layer1``, ``layer2``, … of CIFAR, torchvision and timm ResNets;
    2. what a timm model states in its ``feature_info``: every block of a ViT, every stage of a ConvNeXt;
    3. one stage: of the layers that return several positions (tokens, or a map larger than 1×1) the one that finishes
       last, which is the one before the pooling;
    4. one stage: in a model without positions, the layer that finishes last before the logits.

    Args:
        example: a batch in the model's input format, on its device. The model runs once (:func:`look`).

    Raises:
        ValueError: the model has no inner layer before its logits.
    """
    found = _outputs(module, example)
    children = sorted(name for name, _ in module.named_children() if re.fullmatch(r"layer[1-9]", name))
    for paths in (children, _stated(module)):
        chosen = [Stage(path, found[path]) for path in paths if path in found]
        if any(positions(stage.shape) > 1 for stage in chosen):
            return chosen
    spread = [Stage(path, shape) for path, shape in found.items() if positions(shape) > 1]
    last = spread or [Stage(path, shape) for path, shape in found.items()]
    if not last:
        raise ValueError(
            f"expected {type(module).__name__} to have an inner layer before its logits, but there is none; "
            "use a method that compares logits"
        )
    return last[-1:]


def positions(shape: Sequence[int]) -> int:
    """Positions in features of a shape without the batch: H·W in a map, N in tokens, 1 in a vector."""
    if len(shape) == 3:
        return shape[1] * shape[2]
    return shape[0] if len(shape) == 2 else 1


def _stated(module: nn.Module) -> list[str]:
    """Module paths in timm's ``feature_info``: a list of dicts, or an object that holds one."""
    info: Any = getattr(module, "feature_info", None)
    info = getattr(info, "info", info)
    if not isinstance(info, list):
        return []
    return [str(entry["module"]) for entry in info if isinstance(entry, dict) and entry.get("module")]


def _outputs(module: nn.Module, example: Tensor) -> dict[str, tuple[int, ...]]:
    """Shapes of what inner layers return, in the order in which their last call ends; the logits are left out."""
    returned: dict[str, Tensor] = {}
    seen = Seen.of(module, example)

    def note(path: str) -> Any:
        def hook(layer: nn.Module, inputs: object, output: object) -> None:
            returned.pop(path, None)
            features = next(tensors_of(output), None)
            if features is not None and 2 <= features.ndim <= 4 and len(features) == len(example):
                turned = channels_first(features, seen, layer)
                returned[path] = features if turned is None else turned

        return hook

    handles = [layer.register_forward_hook(note(path)) for path, layer in module.named_modules() if path]
    try:
        logits = {x.data_ptr() for x in tensors_of(look(module, example))}
    finally:
        for handle in handles:
            handle.remove()
    # All of them are alive, so that no two share an address by chance.
    return {path: tuple(x.shape[1:]) for path, x in returned.items() if x.data_ptr() not in logits}
