"""Build SAM 2 by name, from transformers' classes; nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch

from ultrarefiner_monai.networks.sam.weights import read_state
from ultrarefiner_monai.networks.sam2.hiera import vision_config
from ultrarefiner_monai.networks.sam2.model import Sam2
from ultrarefiner_monai.networks.sam2.variants import IMAGE_SIZE, STRIDE, VARIANTS, VERSIONS, Variant
from ultrarefiner_monai.networks.sam2.weights import load_official, version_of


def build_sam2(
    variant: str, image_size: int = IMAGE_SIZE, checkpoint: str | Path | None = None, version: str | None = None
) -> Sam2:
    """Build a SAM 2 in eval mode (Ravi et al., SAM 2: Segment Anything in Images and Videos, ICLR 2025).

    Args:
        variant: `tiny`, `small`, `base_plus`, `large`, or `mini`, of which no weights are published.
        image_size: input side in pixels, a multiple of 32; no weight depends on it.
        checkpoint: official `.pt` file, or one in its naming; None: random weights.
        version: `2.0` or `2.1`, which encodes the time of memories and has three tensors more; None: the
            checkpoint's, and 2.1 without one.

    Raises:
        ValueError: unknown variant or version, a size that 32 does not divide, or weights of another network.
        FileNotFoundError: no such checkpoint.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown SAM 2 variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    if image_size <= 0 or image_size % STRIDE:
        raise ValueError(f"image_size of SAM 2 {variant}: expected a positive multiple of {STRIDE}, found {image_size}")
    state = None if checkpoint is None else read_state(Path(checkpoint))
    if version is None:
        version = VERSIONS[-1] if state is None else version_of(state)
    if version not in VERSIONS:
        raise ValueError(f"unknown version {version!r} of SAM 2; expected one of {', '.join(VERSIONS)}")
    network = _network(VARIANTS[variant], image_size, version)
    sam = Sam2(network, variant=variant, version=version, image_size=image_size).eval()
    if state is not None:
        load_official(sam, state, str(checkpoint))
    return sam


def build_memory(image_size: int, layers: int) -> Sam2:
    """A SAM 2.1's memory alone, with random weights, for a SAM that has none: memory encoder, `layers` of memory attention.

    Raises:
        ValueError: a size that 16 does not divide.
    """
    if image_size <= 0 or image_size % 16:
        raise ValueError(f"image_size of a memory: expected a positive multiple of 16, found {image_size}")
    network = _network(VARIANTS["mini"], image_size, "2.1", layers)
    neck = network.vision_encoder.neck  # for its position codes; a whole encoder without parameters could not be traced
    del neck.convs, network.prompt_encoder, network.mask_decoder
    network.vision_encoder = torch.nn.ModuleDict({"neck": neck})
    return Sam2(network, variant="memory", version="2.1", image_size=image_size).eval()


def _network(variant: Variant, image_size: int, version: str, memory_layers: int = 4) -> Any:
    """Transformers' `Sam2VideoModel` with random weights; its import takes seconds, so it waits until here."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    config = Sam2VideoConfig(
        vision_config=vision_config(variant, image_size),
        prompt_encoder_config={"image_size": image_size},
        mask_decoder_config={"dynamic_multimask_via_stability": False},  # training and evaluation take the same mask
        image_size=image_size,
        memory_attention_num_layers=memory_layers,
        memory_attention_rope_feat_sizes=[image_size // 16] * 2,
        enable_occlusion_spatial_embedding=version == "2.1",
        enable_temporal_pos_encoding_for_object_pointers=version == "2.1",
    )
    network = Sam2VideoModel(config)
    del network.shared_image_embedding  # a copy of the prompt encoder's, which `Sam2` uses for points and pixels alike
    return network
