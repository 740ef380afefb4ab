"""Adapters that teach a frozen image encoder ultrasound, attached by hooks: no encoder is rewritten."""

from ultrarefiner_monai.networks.adapters.attach import ContextEdgeAdapters, add_adapters
from ultrarefiner_monai.networks.adapters.context_edge import EdgeMode
from ultrarefiner_monai.networks.adapters.features import BlockFeatures, EncoderFeatures, watch
from ultrarefiner_monai.networks.adapters.places import (
    AdapterPlaces,
    hiera_places,
    hiera_stage_ends,
    tiny_vit_places,
)

__all__ = [
    "AdapterPlaces",
    "BlockFeatures",
    "ContextEdgeAdapters",
    "EdgeMode",
    "EncoderFeatures",
    "add_adapters",
    "hiera_places",
    "hiera_stage_ends",
    "tiny_vit_places",
    "watch",
]
