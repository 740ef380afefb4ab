"""Segment Anything 2 for batches: variants, official weights, features of three levels, prompts, still-image decoding."""

from ultrarefiner_monai.networks.sam2.build import build_sam2
from ultrarefiner_monai.networks.sam2.model import Features, Sam2

__all__ = ["Features", "Sam2", "build_sam2"]
