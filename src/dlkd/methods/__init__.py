"""Named distillation methods, each a composition of the choices in the rooms below."""

from dlkd.methods.composition import Composition, Divergence, LossParts, Signals
from dlkd.methods.dlkd import DLKDLoss
from dlkd.methods.label_terms import LabelOptions
from dlkd.methods.options import LossOptions
from dlkd.methods.published import METHODS, Method
from dlkd.methods.registry import find_method, make_method, parse_method, resolve_loss
from dlkd.methods.temperatures import FixedTemperature

__all__ = [
    "METHODS",
    "Composition",
    "DLKDLoss",
    "Divergence",
    "FixedTemperature",
    "LabelOptions",
    "LossOptions",
    "LossParts",
    "Method",
    "Signals",
    "find_method",
    "make_method",
    "parse_method",
    "resolve_loss",
]
