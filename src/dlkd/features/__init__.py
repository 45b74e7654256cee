"""Features of inner layers: taps by module path, the layers that teach, and what is learnt beside the student."""

from dlkd.features.layers import FeatureLoss, LayerPairs, Stage, default_layers, stages
from dlkd.features.method import FeatureMethod, Regressor, make_adapter
from dlkd.features.tap import FeatureTap, feature_shapes

__all__ = [
    "FeatureLoss",
    "FeatureMethod",
    "FeatureTap",
    "LayerPairs",
    "Regressor",
    "Stage",
    "default_layers",
    "feature_shapes",
    "make_adapter",
    "stages",
]
