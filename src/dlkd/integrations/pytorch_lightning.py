"""A LightningModule that distils, for ``import pytorch_lightning``, whose Trainer takes no other."""

from __future__ import annotations

from dlkd.integrations.lightning_steps import DistillationSteps

try:
    from pytorch_lightning import LightningModule
except ImportError as error:
    raise ImportError(
        "expected the package pytorch_lightning, but there is none: pip install pytorch-lightning"
    ) from error


class DistillationModule(DistillationSteps, LightningModule):
    __doc__ = DistillationSteps.__doc__
