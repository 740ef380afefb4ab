"""Per-image segmentation metrics with every empty case defined."""

from ultrarefiner_monai.metrics.segmentation import segmentation_metrics, summarise

__all__ = ["segmentation_metrics", "summarise"]
