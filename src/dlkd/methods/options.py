"""The settings of the methods, typed for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlkd.difficulty.level import LevelMode
from dlkd.difficulty.score import ScoreName


@dataclass(frozen=True)
class LossOptions:
    """Settings of the method; what is not given is the method's default (``dlkd methods`` lists them).

    Attributes:
        variant: where paper and published code differ, follow the paper, or the code.
        temperature: of kd, dkd, nkd, dist, wsld, ea, dtkd, rld, lskd, mlkd, r2kd, probemix.
        t_easy: temperature of the easiest samples, of dlkd and energy.
        t_hard: temperature of the hardest samples, of dlkd and energy; below t_easy for the opposite direction.
        t_middle: temperature of those between, of energy.
        easy_share: share of the samples that count as easy, of energy.
        hard_share: share of the samples that count as hard, of energy.
        gamma: bends the way from easy to hard, of dlkd.
        score: what difficulty is, of dlkd and energy: the distance of teacher and probe, their Jensen-Shannon
            divergence, or of the teacher alone: entropy, 1 − max_probability, 1 − margin, energy, or cross_entropy
            to the given label.
        distance_temperature: softmax temperature of the score, of dlkd and energy.
        level: how a difficulty becomes a level in [0, 1], of dlkd and energy.
        shuffled: give each sample the temperature of another of its batch, of dlkd and energy: a control, which keeps
            the temperatures and takes the difficulty away.
        scale: what undoes the temperature's effect on the gradient, of dlkd and energy.
        ce_weight: of the given labels.
        kd_weight: of the teacher.
        warmup_epochs: over which the weight of the teacher rises, of dkd, rld and dtkd.
        alpha: weight of the first part, of dkd, rld and dtkd.
        beta: weight of the second part, of dkd, rld and dtkd.
        nkd_gamma: weight of the other classes, of nkd.
        dist_beta: weight of the correlation along classes, of dist.
        dist_gamma: weight of the correlation along the batch, of dist.
        exponent: 1/T of the teacher alone, of ttm and wttm.
        factor: temperature as a multiple of the standard deviation, of normkd.
        centred: measure the largest logit from the mean, of dtkd.
        target_temperature: of the label's logit of the teacher, of ats.
        other_temperature: of its other logits, of ats.
        student_temperature: of ats.
        ramp_epochs: over which the temperature learns to resist, of ctkd.
        per_instance: learn a temperature for each sample instead of one for all, of ctkd.
        confidence_temperature: of the first part, of rld.
        entropy_temperature: of the entropies, of ea.
        entropy_bound: what the student's entropy is divided by, of ea; by default the log of the classes.
        share: of the teacher in its mixture with the probe, of r2kd and probemix.
        eps: added to the product of norms, of dist and r2kd.
        unbiased: standard deviations over C − 1, of lskd and normkd.
        smoothing: share of the label that goes to all classes, of ls.
        feature_weight: of the inner layers, of fitnet, at and rkd.
        distance_weight: of the distances between samples, of rkd.
        angle_weight: of the angles between samples, of rkd.
    """

    variant: Literal["paper", "code"] | None = None
    temperature: float | None = None
    t_easy: float | None = None
    t_hard: float | None = None
    t_middle: float | None = None
    easy_share: float | None = None
    hard_share: float | None = None
    gamma: float | None = None
    score: ScoreName | None = None
    distance_temperature: float | None = None
    level: LevelMode | None = None
    shuffled: bool | None = None
    scale: Literal["per_sample", "mean", "none"] | None = None
    ce_weight: float | None = None
    kd_weight: float | None = None
    warmup_epochs: float | None = None
    alpha: float | None = None
    beta: float | None = None
    nkd_gamma: float | None = None
    dist_beta: float | None = None
    dist_gamma: float | None = None
    exponent: float | None = None
    factor: float | None = None
    centred: bool | None = None
    target_temperature: float | None = None
    other_temperature: float | None = None
    student_temperature: float | None = None
    ramp_epochs: float | None = None
    per_instance: bool | None = None
    confidence_temperature: float | None = None
    entropy_temperature: float | None = None
    entropy_bound: float | None = None
    share: float | None = None
    eps: float | None = None
    unbiased: bool | None = None
    smoothing: float | None = None
    feature_weight: float | None = None
    distance_weight: float | None = None
    angle_weight: float | None = None
