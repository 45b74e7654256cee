"""dlkd: difficulty level-based knowledge distillation for image classifiers.

The names below are loaded when first used, so that ``import dlkd`` costs nothing and a loss never
drags in a trainer.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

_HOME = {
    "DLKDLoss": "dlkd.methods",
    "DifficultyLevel": "dlkd.difficulty",
    "DifficultyTemperature": "dlkd.difficulty",
    "FrozenTeacher": "dlkd.teacher",
    "kd_loss": "dlkd.losses",
    "probe_distance": "dlkd.difficulty",
    "prune_teacher": "dlkd.difficulty",
}
__all__ = [
    "DLKDLoss",
    "DifficultyLevel",
    "DifficultyTemperature",
    "FrozenTeacher",
    "kd_loss",
    "probe_distance",
    "prune_teacher",
]

if TYPE_CHECKING:
    from dlkd.difficulty import DifficultyLevel, DifficultyTemperature, probe_distance, prune_teacher
    from dlkd.losses import kd_loss
    from dlkd.methods import DLKDLoss
    from dlkd.teacher import FrozenTeacher


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'dlkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
