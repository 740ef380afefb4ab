"""SAM 2's memory: what is kept of a frame and its mask, and a frame's features in the light of what was kept.

Any number T of memories and P of pointers, each of the same N objects. Memory tokens are 64 wide whatever the variant.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.model import full_precision
from ultrarefiner_monai.networks.sam2.model import Decoded, Sam2

MASK_SCALE, MASK_BIAS = 20.0, -10.0  # probabilities enter the memory encoder as 20 p - 10
POINTER_SPAN = 15  # frames; the published model divides the distances of its 16 pointers by it


def encode_memory(sam: Sam2, stride_16: Tensor, decoded: Decoded) -> Tensor:
    """Memory (N, 64, S / 16, S / 16) of N frames with their masks.

    Args:
        sam: any variant.
        stride_16: the frames' coarsest features (N, 256, S / 16, S / 16), without memory.
        decoded: one mask for each of them.
    """
    network = sam.network
    size = (sam.image_size, sam.image_size)
    probability = F.interpolate(decoded.logits, size, mode="bilinear", align_corners=False).sigmoid()
    memory, _ = network.memory_encoder(stride_16, MASK_SCALE * probability + MASK_BIAS)
    hidden = network.occlusion_spatial_embedding_parameter  # of 2.1 alone
    if hidden is None:
        return memory
    return torch.where(decoded.presence[..., None, None] > 0, memory, memory + hidden[..., None, None])


def object_pointer(sam: Sam2, decoded: Decoded) -> Tensor:
    """What the decoder remembers of N objects beside their pixels, (N, 256), from one mask for each of them."""
    pointer = sam.network.object_pointer_proj(decoded.tokens[:, 0])
    return torch.where(decoded.presence > 0, pointer, sam.network.no_object_pointer)


def attend(
    sam: Sam2,
    stride_16: Tensor,
    memories: Tensor,
    distances: Tensor,
    pointers: Tensor | None = None,
    pointer_distances: Tensor | None = None,
) -> Tensor:
    """Features of N frames, conditioned on memories: the coarsest map for `Sam2.decode_embedded`, as `stride_16`.

    Args:
        sam: any variant.
        stride_16: the frames' own features (N, 256, S / 16, S / 16), without memory.
        memories: (T, N, 64, S / 16, S / 16), T at least 1.
        distances: (T,) how many frames ago, 1 to 6; 0 for a frame with a prompt, at any distance.
        pointers: (P, N, 256), or None.
        pointer_distances: (P,) how many frames ago.

    Raises:
        ValueError: pointers without distances or distances without pointers.
    """
    if (pointers is None) != (pointer_distances is None):
        raise ValueError("pointers and pointer_distances go together; give both or neither")
    network = sam.network
    with full_precision(stride_16):
        query_code = _sine_code(network.vision_encoder.neck, stride_16)
        code = _sine_code(network.memory_encoder, memories[0])
        rows = network.memory_temporal_positional_encoding[:, 0][distances - 1]  # row -1, the last, for distance 0
        codes = [(code + rows[:, None]).flatten(0, 1)]
    tokens = [memories.flatten(3).permute(0, 3, 1, 2).flatten(0, 1)]  # (T g g, N, 64)
    pointer_tokens = 0
    if pointers is not None and pointer_distances is not None:
        tokens.append(pointers.unflatten(2, (-1, rows.shape[-1])).transpose(1, 2).flatten(0, 1))  # four for each
        codes.append(_pointer_codes(sam, pointer_distances, repeats=pointers.shape[2] // rows.shape[-1]))
        pointer_tokens = tokens[-1].shape[0]
    memory = torch.cat(tokens)
    attended = network.memory_attention(
        current_vision_features=stride_16.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=query_code,
        memory=memory,
        memory_posision_embeddings=torch.cat(codes).expand(-1, memory.shape[1], -1),  # transformers' own spelling
        num_object_pointer_tokens=pointer_tokens,
    )
    return attended[0].mT.unflatten(2, stride_16.shape[2:])


def _sine_code(module: Any, like: Tensor) -> Tensor:
    """Position codes of a map (N, C, g, g) from a module of transformers that has its own, (g g, 1, C), in float32."""
    code = module.position_encoding((1, *like.shape[1:]), like.device, torch.float32)
    return code.flatten(2).permute(2, 0, 1)


def _pointer_codes(sam: Sam2, distances: Tensor, repeats: int) -> Tensor:
    """Time codes (P repeats, 1, 64) of pointers; SAM 2.0 has none: zeros."""
    network = sam.network
    if sam.version == "2.0":
        return network.no_memory_embedding.new_zeros(distances.shape[0] * repeats, 1, network.mem_dim)
    half = network.hidden_dim // 2
    index = torch.arange(half, device=distances.device)
    wavelength = 10_000 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    with full_precision(wavelength):
        phase = (distances / POINTER_SPAN)[:, None] / wavelength
        code = network.temporal_positional_encoding_projection_layer(torch.cat([phase.sin(), phase.cos()], dim=1))
    return code[:, None].repeat_interleave(repeats, dim=0)
