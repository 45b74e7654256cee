"""How hard is an image for its teacher: distance → level → temperature, and the pruned probe."""

from dlkd.difficulty.auto_sparsity import AutoSparsity, auto_sparsity
from dlkd.difficulty.channels import prune_channels
from dlkd.difficulty.distance import probe_distance
from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.probe import prune_teacher
from dlkd.difficulty.probe_norm import ProbeNorm, recalibrate_norms, use_batch_statistics
from dlkd.difficulty.probe_spec import Criterion, ProbeSpec, column_name, mean_distance
from dlkd.difficulty.score import PROBE_SCORES, SHARED_TEMPERATURES, DifficultyScore, ScoreName, js_divergence
from dlkd.difficulty.temperature import DifficultyTemperature, StepTemperature

__all__ = [
    "PROBE_SCORES",
    "SHARED_TEMPERATURES",
    "AutoSparsity",
    "Criterion",
    "DifficultyLevel",
    "DifficultyScore",
    "DifficultyTemperature",
    "ProbeNorm",
    "ProbeSpec",
    "ScoreName",
    "StepTemperature",
    "auto_sparsity",
    "column_name",
    "js_divergence",
    "mean_distance",
    "probe_distance",
    "prune_channels",
    "prune_teacher",
    "recalibrate_norms",
    "use_batch_statistics",
]
