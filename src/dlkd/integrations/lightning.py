"""A LightningModule that distils, for ``import lightning``; see :mod:`dlkd.integrations.pytorch_lightning` too."""

from __future__ import annotations

from dlkd.integrations.lightning_steps import DistillationSteps

try:
    from lightning.pytorch import LightningModule
except ImportError as error:
    raise ImportError("expected the package lightning, but there is none: pip install 'dlkd[lightning]'") from error


class DistillationModule(DistillationSteps, LightningModule):
    __doc__ = DistillationSteps.__doc__
