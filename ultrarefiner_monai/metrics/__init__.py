"""Per-image segmentation metrics with every empty case defined, and calibration of probability maps."""

from ultrarefiner_monai.metrics.calibration import calibration_error, calibration_sums, reliability
from ultrarefiner_monai.metrics.overlap import overlap_metrics
from ultrarefiner_monai.metrics.segmentation import segmentation_metrics, summarise

__all__ = [
    "calibration_error",
    "calibration_sums",
    "overlap_metrics",
    "reliability",
    "segmentation_metrics",
    "summarise",
]
