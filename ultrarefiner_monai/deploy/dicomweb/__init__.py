"""Series of a DICOMweb server: fetched, predicted, and their segmentations stored there."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(__name__, {"Server": "server", "predict_series": "prediction"})
