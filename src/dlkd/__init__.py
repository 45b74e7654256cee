"""dlkd: difficulty level-based knowledge distillation for image classifiers.

The names below are loaded when first used, so that ``import dlkd`` costs nothing and a loss never
drags in a trainer.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

_HOME = {
    "DLKDLoss": "dlkd.methods",
    "DataOptions": "dlkd.data",
    "DifficultyLevel": "dlkd.difficulty",
    "DifficultyTemperature": "dlkd.difficulty",
    "DistillOptions": "dlkd.train.options",
    "Distiller": "dlkd.integrations",
    "FrozenTeacher": "dlkd.teacher",
    "InputFormat": "dlkd.models",
    "ModelOptions": "dlkd.train.options",
    "TeacherOptions": "dlkd.train.teacher_options",
    "TrainOptions": "dlkd.train.options",
    "kd_loss": "dlkd.losses",
    "probe_distance": "dlkd.difficulty",
    "prune_teacher": "dlkd.difficulty",
    "Run": "dlkd.notebook",
    "distill": "dlkd.notebook",
    "replay": "dlkd.train.replay",
    "run": "dlkd.jobs.run",
    "train_classifier": "dlkd.notebook",
}
__all__ = [
    "DLKDLoss",
    "DataOptions",
    "DifficultyLevel",
    "DifficultyTemperature",
    "DistillOptions",
    "Distiller",
    "FrozenTeacher",
    "InputFormat",
    "ModelOptions",
    "Run",
    "TeacherOptions",
    "TrainOptions",
    "distill",
    "kd_loss",
    "probe_distance",
    "prune_teacher",
    "replay",
    "run",
    "train_classifier",
]

if TYPE_CHECKING:
    from dlkd.data import DataOptions
    from dlkd.difficulty import DifficultyLevel, DifficultyTemperature, probe_distance, prune_teacher
    from dlkd.integrations import Distiller
    from dlkd.jobs.run import run
    from dlkd.losses import kd_loss
    from dlkd.methods import DLKDLoss
    from dlkd.models import InputFormat
    from dlkd.notebook import Run, distill, train_classifier
    from dlkd.teacher import FrozenTeacher
    from dlkd.train.options import DistillOptions, ModelOptions, TrainOptions
    from dlkd.train.replay import replay
    from dlkd.train.teacher_options import TeacherOptions


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'dlkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
