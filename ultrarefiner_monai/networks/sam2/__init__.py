"""Segment Anything 2 for batches: variants, official weights, features of three levels, prompts, decoding, memory."""

from ultrarefiner_monai.networks.sam2.build import build_sam2
from ultrarefiner_monai.networks.sam2.model import Decoded, Features, Sam2

__all__ = ["Decoded", "Features", "Sam2", "build_sam2"]
