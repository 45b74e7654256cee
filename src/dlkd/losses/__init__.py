"""Pure loss functions: one idea a file, per sample first, needing torch and nothing else."""

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.kl import kd_loss, kl_divergence

__all__ = ["cross_entropy", "kd_loss", "kl_divergence"]
