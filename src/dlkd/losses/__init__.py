"""Pure loss functions: one idea a file, per sample first, needing torch and nothing else."""

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.kl import kd_loss, kl_divergence
from dlkd.losses.temperature import Temperature, Temperatures

__all__ = ["Temperature", "Temperatures", "cross_entropy", "kd_loss", "kl_divergence"]
