"""What difficulty is in a run, and what its level means, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SCORE_WORDS = {
    "distance": "distance of teacher and probe",
    "js": "Jensen–Shannon divergence of teacher and probe",
    "entropy": "entropy of the teacher's answer",
    "max_probability": "doubt of the teacher (1 − its largest probability)",
    "margin": "closeness of the teacher's two likeliest classes",
    "energy": "energy of the teacher's logits",
    "cross_entropy": "cross-entropy of teacher and label",
}
"""By the name of a :class:`dlkd.difficulty.DifficultyScore`."""
_OF_TRAINING, _OF_LARGEST = "by its rank among the training views", "as a share of the largest that there can be"
_LEVELS = {"rank": _OF_TRAINING, "absolute": _OF_LARGEST, "batch": "by its rank among these images"}


class Measure(NamedTuple):
    """How a run measures difficulty: the name of its score and the mode of its level."""

    score: str = "distance"
    level: str = "rank"

    @property
    def value(self) -> str:
        """What the score is."""
        return SCORE_WORDS.get(self.score, "difficulty")

    @property
    def level_of_image(self) -> str:
        """What the level of an image that is scored says."""
        return f"the {self.value}, {_LEVELS.get(self.level, 'on a scale of the run')}"

    @property
    def level_of_value(self) -> str:
        """By what each value of the score has its level."""
        return _OF_LARGEST if self.level == "absolute" else _OF_TRAINING


def measure_of(method: Mapping[str, Any]) -> Measure:
    """Of the settings of a method in ``results.json``; one that looks at no difficulty is measured by the defaults."""
    return Measure(str(method.get("score", "distance")), str(method.get("level", "rank")))
