"""How hard is an image for its teacher: distance → level → temperature, and the pruned probe."""

from dlkd.difficulty.distance import probe_distance
from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.probe import prune_teacher
from dlkd.difficulty.temperature import DifficultyTemperature

__all__ = ["DifficultyLevel", "DifficultyTemperature", "probe_distance", "prune_teacher"]
