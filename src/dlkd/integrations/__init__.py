"""Faces for the loops of others: plain PyTorch here; timm, Lightning and Hugging Face in files of their own."""

from dlkd.integrations.distiller import Distiller
from dlkd.integrations.outputs import LogitsOf

__all__ = ["Distiller", "LogitsOf"]
