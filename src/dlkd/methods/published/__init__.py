"""The published methods, one entry each: formula, source, defaults, and the choices in which they depart from KD.

``dkd`` has another divergence, ``lskd`` transforms the logits first, ``dlkd`` has another temperature; so
``dlkd+dkd+lskd`` is the three together.
"""

from dlkd.methods.published.divergences import DIVERGENCES
from dlkd.methods.published.method import Build, Method, Settings
from dlkd.methods.published.others import LABELS_ALONE, LAYERS, TRANSFORMS_AND_WEIGHTS
from dlkd.methods.published.temperatures import TEMPERATURES

METHODS: dict[str, Method] = {**LABELS_ALONE, **DIVERGENCES, **TRANSFORMS_AND_WEIGHTS, **TEMPERATURES, **LAYERS}

__all__ = ["METHODS", "Build", "Method", "Settings"]
