"""Pure loss functions: one idea a file, per sample first, needing torch and nothing else.

``<method>_loss(student_logits, teacher_logits, target=None, *, …, reduction="mean")`` is the distillation term
alone, without the cross-entropy to the labels; its docstring says whether T² is inside.
"""

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.dkd import dkd_loss
from dlkd.losses.features import attention_loss, fitnet_loss, rkd_loss
from dlkd.losses.kl import kd_loss, kl_divergence
from dlkd.losses.mlkd import mlkd_loss
from dlkd.losses.mse import mse_loss
from dlkd.losses.nkd import nkd_loss
from dlkd.losses.relation import dist_loss, r2kd_value_loss
from dlkd.losses.rld import rld_loss
from dlkd.losses.robust import (
    early_learning_regularizer,
    generalized_cross_entropy,
    label_trust,
    symmetric_cross_entropy,
)
from dlkd.losses.standardize import z_score
from dlkd.losses.temperature import Temperature, Temperatures
from dlkd.losses.tempered import (
    ats_loss,
    dtkd_loss,
    ea_kd_loss,
    energy_kd_loss,
    lskd_loss,
    normkd_loss,
    ttm_loss,
    wsld_loss,
    wttm_loss,
)

__all__ = [
    "Temperature",
    "Temperatures",
    "ats_loss",
    "attention_loss",
    "cross_entropy",
    "dist_loss",
    "dkd_loss",
    "dtkd_loss",
    "ea_kd_loss",
    "early_learning_regularizer",
    "energy_kd_loss",
    "fitnet_loss",
    "generalized_cross_entropy",
    "kd_loss",
    "kl_divergence",
    "label_trust",
    "lskd_loss",
    "mlkd_loss",
    "mse_loss",
    "nkd_loss",
    "normkd_loss",
    "r2kd_value_loss",
    "rkd_loss",
    "rld_loss",
    "symmetric_cross_entropy",
    "ttm_loss",
    "wsld_loss",
    "wttm_loss",
    "z_score",
]
