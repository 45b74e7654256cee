"""Public layouts of weights, told by their keys: what a file holds, where it does not fit the model."""

from __future__ import annotations

from collections.abc import Collection

LAYOUTS = {
    "classifier.6.weight": (
        "a VGG with three linear layers (torchvision, pytorch-cifar-models), while those of ours have one; "
        "give the class it was trained with as package.module:factory"
    ),
    "features.18.0.weight": (
        "torchvision's MobileNetV2, or the one of pytorch-cifar-models, whose strides are others than in either "
        "torchvision's or ours; give the class it was trained with as package.module:factory"
    ),
    "stage2.0.branch1.0.weight": (
        "torchvision's ShuffleNetV2, or the one of pytorch-cifar-models, whose stem is another than in either "
        "torchvision's or ours; give the class it was trained with as package.module:factory"
    ),
    "stage0.rbr_dense.conv.weight": (
        "a RepVGG, of which there is none of ours; give the class it was trained with as package.module:factory"
    ),
    "block1.layer.0.bn1.weight": "a wide ResNet, which is one of wrn16_1 … wrn40_2",
    "block0.0.weight": "a VGG for CIFAR, which is one of vgg8, cifar:vgg11 … cifar:vgg19",
    "layer4.0.shortcut.0.weight": "a ResNet for CIFAR, which is one of cifar:resnet18 and cifar:resnet50",
    "blocks.0.0.conv.0.weight": "mdistiller's MobileNetV2, which is mobilenet_v2",
    "layer1.0.conv5.weight": "mdistiller's ShuffleNetV2, which is shufflenet_v2",
    "model.13.3.weight": "mdistiller's MobileNetV1, which is mobilenet_v1",
}
"""A key that only this layout has → what the weights are of, and what to do."""


def foreign_layout(found: Collection[str], expected: Collection[str]) -> str | None:
    """What the keys ``found`` in a file are of, where that is known and is not what is ``expected``."""
    if any(key.startswith("student.") for key in found):
        return "this is a whole distiller of mdistiller; give its file student_best or student_latest"
    for key, meaning in LAYOUTS.items():
        if key in found and key not in expected:
            return f"these are weights of {meaning}"
    return None
