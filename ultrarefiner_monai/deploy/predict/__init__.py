"""The verb `predict`: image files in, masks of their own size, measures and a report out."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(__name__, {"Outputs": "outputs", "Summary": "prediction", "predict": "prediction"})
