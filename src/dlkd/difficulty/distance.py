"""The raw difficulty of an image: how far apart do the teacher and its pruned copy predict?"""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.kl import check_pair
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.temperature import temperature_pair

MAX_DISTANCE = 2.0**0.5
"""Largest Euclidean distance between two probability vectors: two different certain predictions."""


def probe_distance(teacher_logits: Tensor, probe_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """d = ‖softmax(z_t/τ_d) − softmax(z_p/τ_d)‖₂ of each sample, in [0, √2].

    The abstract of DLKD (Neurocomputing 2024, 10.1016/j.neucom.2024.128375) says "Euclidean distance
    between the predictions"; probabilities at τ_d = 1 are our reading of it.

    Args:
        teacher_logits: ``[B, C]``.
        probe_logits: ``[B, C]``, from the pruned copy of the teacher.
        temperature: τ_d > 0. It matters: the ranking at 4 is a very different one.

    Returns:
        ``[B]``, fp32 (fp64 for fp64 logits), without gradient.

    Raises:
        ValueError: shapes differ or the temperature is not positive.
    """
    check_pair(teacher_logits, probe_logits)
    with torch.no_grad(), no_autocast(teacher_logits):
        teacher, probe = full_precision(frozen(teacher_logits)), full_precision(frozen(probe_logits))
        t = temperature_pair(temperature, teacher).teacher
        difference = torch.softmax(teacher / t, dim=1) - torch.softmax(probe / t, dim=1)
        distance: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return distance.clamp(max=MAX_DISTANCE)
