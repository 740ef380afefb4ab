"""A trained model: its card and weights, one image at a time through it, several models as one. Imports no MONAI."""

from ultrarefiner_monai.models.card import build_network, read_card
from ultrarefiner_monai.models.ensemble import Consensus, Ensemble, find_models
from ultrarefiner_monai.models.segmenter import Prediction, Segmenter, load_segmenter
from ultrarefiner_monai.models.weights import CheckpointError, load_model, save_model

__all__ = [
    "CheckpointError",
    "Consensus",
    "Ensemble",
    "Prediction",
    "Segmenter",
    "build_network",
    "find_models",
    "load_model",
    "load_segmenter",
    "read_card",
    "save_model",
]
