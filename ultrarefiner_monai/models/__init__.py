"""A trained model: its card and weights, one image at a time through it, several models as one. Imports no MONAI."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(
    __name__,
    {
        "CheckpointError": "weights",
        "Consensus": "ensemble",
        "Ensemble": "ensemble",
        "Prediction": "segmenter",
        "Segmenter": "segmenter",
        "build_network": "card",
        "find_models": "ensemble",
        "load_model": "weights",
        "load_segmenter": "segmenter",
        "read_card": "card",
        "save_model": "weights",
    },
)
