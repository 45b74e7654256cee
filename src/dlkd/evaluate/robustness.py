"""Everything about a classifier in one call: figures, its teacher, difficulty, wrong labels, corruptions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dlkd.data import Samples
from dlkd.evaluate.corruptions import SEVERITIES, accuracy_under
from dlkd.evaluate.figures import agreement, by_level, figures, kl_to_teacher
from dlkd.evaluate.logits import check_finite, logits_of
from dlkd.evaluate.memorisation import Mislabelled, memorisation


def robustness(
    model: nn.Module,
    samples: Samples,
    input_format: Callable[[Tensor], Tensor],
    *,
    size: int | None = None,
    teacher_logits: Tensor | None = None,
    level: Tensor | None = None,
    noisy: Mapping[str, Mislabelled] | None = None,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures as JSON values, those whose argument is given beside the ones of :func:`figures`.

    Args:
        model: images → logits, on any device; its modes are put back.
        samples: what it is scored on, all with labels.
        input_format: from images in [0, 1] to what the model wants to see.
        size: side in pixels of images that come from files.
        teacher_logits: ``[N, C]`` of the same images: agreement with the teacher, and KL(teacher || student).
        level: difficulty ``[N]`` in [0, 1]: accuracies by its tenths; needs the teacher's logits.
        noisy: images with wrong labels, by name; see :func:`mislabelled`.
        corruptions: names, as :func:`parse_corruptions` gives them.
        severities: out of 1 to 5.
        seed: of the corruptions.

    Returns:
        ``images``, the :func:`figures`, and where asked for ``agreement``, ``kl_to_teacher``, ``by_level``,
        ``memorisation`` and ``corruptions``; see docs/evaluation.md.

    Raises:
        UserError: logits that are not finite.
        ValueError: a level without a teacher, unknown corruptions, or images too small for them.
    """
    if level is not None and teacher_logits is None:
        raise ValueError("expected teacher_logits with level: each tenth shows the teacher's accuracy as well")
    logits, labels = logits_of(model, samples, input_format, size)
    check_finite(logits, samples.ids, "model")
    found: dict[str, Any] = {"images": len(labels), **figures(logits, labels)}
    if teacher_logits is not None:
        found["agreement"] = agreement(logits, teacher_logits)
        found["kl_to_teacher"] = kl_to_teacher(logits, teacher_logits)
        if level is not None:
            found["by_level"] = by_level(logits, labels, level, teacher_logits)
    if noisy:
        found["memorisation"] = memorised(model, noisy, input_format, size)
    if corruptions:
        under = accuracy_under(model, samples, input_format, corruptions, severities, size=size, seed=seed)
        error = 100 - statistics.fmean(value for row in under.values() for value in row)
        found["corruptions"] = {
            "severities": list(severities),
            "accuracy": under,
            "mean_error": error,
            "relative_error": error - (100 - found["accuracy"]),
        }
    return found


def memorised(
    model: nn.Module,
    noisy: Mapping[str, Mislabelled],
    input_format: Callable[[Tensor], Tensor],
    size: int | None = None,
) -> dict[str, dict[str, float]]:
    """:func:`memorisation` of each part; arguments as for :func:`robustness`."""
    return {
        name: memorisation(*logits_of(model, part.samples, input_format, size), part.true)
        for name, part in noisy.items()
    }
