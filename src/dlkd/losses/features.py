"""Features instead of logits: hints (FitNet), attention maps (AT), relations between samples (RKD).

Features are what a layer returns: vectors ``[B, D]``, tokens ``[B, N, D]`` or maps ``[B, C, H, W]``. The teacher gets
no gradient, and no weight of a method is inside but those of RKD's two parts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce

COINCIDENT = 1e-6
"""Two embeddings that are nearer than this, as a share of the largest coordinate of the centred batch, are one."""


def fitnet_loss(student_features: Tensor, teacher_features: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """1/n·Σ (f_s − f_t)² over the n numbers of a sample: the hint loss of one layer.

    Args:
        student_features: ``[B, …]``, already brought to the teacher's shape (:class:`dlkd.features.Regressor`).
        teacher_features: of the same shape.

    Raises:
        ValueError: the shapes differ.

    Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, equation 3, as a mean instead of half a sum.
    """
    if student_features.shape != teacher_features.shape or student_features.ndim < 2:
        raise ValueError(
            "expected both features to have one shape [batch, …], "
            f"but got {list(student_features.shape)} and {list(teacher_features.shape)}; adapt the student's first"
        )
    with no_autocast(student_features):
        difference = full_precision(student_features) - full_precision(frozen(teacher_features))
        return reduce(difference.flatten(1).square().mean(dim=1), reduction)


def attention_loss(
    student_features: Tensor, teacher_features: Tensor, *, power: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """1/P·Σ_p (a_s,p − a_t,p)², a = m/‖m‖₂ with m_p = mean over channels of abs(f)^power: AT of one layer.

    Channels may differ. Positions that differ in number are averaged to the smaller before anything else; tokens are
    laid out as a grid where they are one (:func:`align_positions`), without a class token.

    Args:
        student_features, teacher_features: ``[B, N, D]`` or ``[B, C, H, W]``.
        power: at least 1; the published choice is 2.

    Raises:
        ValueError: vectors, which have no positions, or batches that differ.

    Source: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017; the norm is at least 1e-12 as in
    the authors' code, which takes the mean over positions where equation 2 of the paper takes a norm.
    """
    if not 1 <= power < math.inf:
        raise ValueError(f"expected power to be at least 1, but got {power}")
    for features in (student_features, teacher_features):
        if features.ndim == 2:
            raise ValueError(
                f"expected features with positions, [B, N, D] or [B, C, H, W], for attention, but got "
                f"{list(features.shape)}; take a layer before the pooling"
            )
    with no_autocast(student_features):
        student, teacher = align_positions(_as_grid(student_features), _as_grid(teacher_features))
        difference = _attention(student, power) - _attention(teacher, power)
        return reduce(difference.square().mean(dim=1), reduction)


def rkd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """w_d·1/B²·Σ_ij H(δ_s,ij − δ_t,ij) + w_a·1/B³·Σ_ijk H(cos_s,ijk − cos_t,ijk), H being Huber's function of width 1.

    δ_ij = ‖e_i − e_j‖ divided by its mean over the pairs that are apart; cos_ijk is that of the angle at e_i between
    e_j and e_k, and 0 where one of them is e_i. Scale, rotation and translation of the embeddings do not matter, nor
    does their number of dimensions, so student and teacher need no adapter. A batch of one or two has no relations: 0.

    Needs about ten times B³ numbers of memory, for B = 256 0.7 GB. Row i of "none" holds the pairs and angles at e_i.

    Args:
        student_features, teacher_features: embeddings ``[B, D]``; of tokens and maps the mean over the positions.

    Source: Park et al., "Relational knowledge distillation", CVPR 2019, equations 4 to 9. As in the authors' code,
    pairs and triples with equal members are in the means.
    """
    _check_pair(student_features, teacher_features)
    with no_autocast(student_features):
        student, teacher = (
            _distances(full_precision(x)) for x in (pool(student_features), pool(frozen(teacher_features)))
        )
        distance = _huber(_relative(student), _relative(teacher)).mean(dim=1)
        angle = _huber(_cosines(student), _cosines(teacher)).mean(dim=(1, 2))
        return reduce(distance_weight * distance + angle_weight * angle, reduction)


def align_positions(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    """Both as fp32 ``[B, P, channels]`` with the same P positions; the teacher's is cut from the graph.

    Maps are averaged to the smaller height and width. As many tokens on both sides stay as they are; if not, tokens
    are laid out as a grid where N is a square, or N − 1 is (the first, the class token, is dropped), and else averaged
    in their order to the smaller number. A vector is one position, and what it is compared with is averaged to one.

    Raises:
        ValueError: features of another shape, or batches that differ.
    """
    _check_pair(student_features, teacher_features)
    pair = [full_precision(student_features), full_precision(frozen(teacher_features))]
    if any(x.ndim == 2 for x in pair):
        student, teacher = (pool(x).unsqueeze(1) for x in pair)
        return student, teacher
    if any(x.ndim == 4 for x in pair) or pair[0].shape[1] != pair[1].shape[1]:
        pair = [_as_grid(x) for x in pair]
        if pair[0].ndim == pair[1].ndim == 4:
            (h, w), (other_h, other_w) = (x.shape[2:] for x in pair)
            smaller = (min(h, other_h), min(w, other_w))
            pair = [x if x.shape[2:] == smaller else F.adaptive_avg_pool2d(x, smaller) for x in pair]
    sequences = [x.flatten(2) if x.ndim == 4 else x.transpose(1, 2) for x in pair]
    shorter = min(x.shape[2] for x in sequences)
    student, teacher = (x if x.shape[2] == shorter else F.adaptive_avg_pool1d(x, shorter) for x in sequences)
    return student.transpose(1, 2), teacher.transpose(1, 2)


def pool(features: Tensor) -> Tensor:
    """The mean over all positions, ``[B, D]``; vectors stay as they are."""
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    return features.mean(dim=1) if features.ndim == 3 else features


def _check_pair(a: Tensor, b: Tensor) -> None:
    if not (2 <= a.ndim <= 4 and 2 <= b.ndim <= 4) or len(a) != len(b):
        raise ValueError(
            "expected features [B, D], [B, N, D] or [B, C, H, W] of one batch, "
            f"but got {list(a.shape)} and {list(b.shape)}"
        )


def _as_grid(features: Tensor) -> Tensor:
    """Tokens ``[B, N, D]`` as a map ``[B, D, √N, √N]`` where N, or N without a class token, is a square."""
    if features.ndim != 3:
        return features
    tokens = features.shape[1]
    for first in (0, 1):
        side = math.isqrt(tokens - first)
        if side and side * side == tokens - first:
            rows = features[:, first:].transpose(1, 2)
            return rows.reshape(*rows.shape[:2], side, side)
    return features


def _attention(positions: Tensor, power: float) -> Tensor:
    """``[B, P, C]`` → ``[B, P]``."""
    # Large features are scaled first, for their power would overflow; the norm takes the scale out again.
    largest = positions.detach().abs().amax(dim=(1, 2), keepdim=True).clamp(min=1)
    scaled = positions / largest
    energy = scaled.square() if power == 2 else scaled.abs().pow(power)
    return F.normalize(energy.mean(dim=2), dim=1)


def _distances(embeddings: Tensor) -> Tensor:
    """``[B, D]`` → ``[B, B]``, in units of the largest coordinate of the centred batch; 0, without gradient, where two
    coincide."""
    centred = embeddings - embeddings.mean(dim=0)
    scaled = centred / centred.detach().abs().amax().clamp(min=1e-12)
    # Differences, not ‖a‖² + ‖b‖² − 2ab, which cancels; and a root that has gradient 0 at 0.
    found = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist")
    return found.masked_fill(found.detach() < COINCIDENT, 0.0)


def _relative(distances: Tensor) -> Tensor:
    """Divided by the mean of those that are not 0."""
    apart = (distances.detach() > 0).sum().clamp(min=1)
    mean = distances.sum() / apart
    return distances / torch.where(mean.detach() > 0, mean, 1.0)


def _cosines(distances: Tensor) -> Tensor:
    """``[B, B]`` → ``[B, B, B]``: cosine of the angle at the first point, by the law of cosines."""
    ij, ik, jk = distances[:, :, None], distances[:, None, :], distances[None]
    sides = 2 * ij * ik
    flat = sides.detach() == 0
    cosine = (ij.square() + (ik - jk) * (ik + jk)) / torch.where(flat, 1.0, sides)
    return torch.where(flat, 0.0, cosine).clamp(-1, 1)


def _huber(a: Tensor, b: Tensor) -> Tensor:
    return F.smooth_l1_loss(a, b, reduction="none")
