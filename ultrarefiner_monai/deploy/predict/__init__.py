"""The verb `predict`: image files in, masks of their own size, measures and a report out."""

from ultrarefiner_monai.deploy.predict.prediction import Summary, predict

__all__ = ["Summary", "predict"]
