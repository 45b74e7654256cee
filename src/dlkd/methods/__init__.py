"""Named distillation methods, each a composition of the choices in the rooms below."""

from dlkd.methods.dlkd import DLKDLoss

__all__ = ["DLKDLoss"]
