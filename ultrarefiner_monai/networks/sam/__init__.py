"""Segment Anything for batches: published weights, fused attention, low-rank adapters."""

from ultrarefiner_monai.networks.sam.build import build_sam
from ultrarefiner_monai.networks.sam.lora import inject_lora, lora_rank, merge_lora
from ultrarefiner_monai.networks.sam.model import Sam
from ultrarefiner_monai.networks.sam.weights import lite_medsam_weights, load_checkpoint

__all__ = [
    "Sam",
    "build_sam",
    "inject_lora",
    "lite_medsam_weights",
    "load_checkpoint",
    "lora_rank",
    "merge_lora",
]
