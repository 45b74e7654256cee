"""The student in the user's hands: files that other programs run, checked against it, and what it says of pictures."""

from dlkd.export.predictor import Predictor, open_predictor
from dlkd.export.preprocessing import PREPROCESSING, Preprocessing, read_preprocessing

__all__ = ["PREPROCESSING", "Predictor", "Preprocessing", "open_predictor", "read_preprocessing"]
