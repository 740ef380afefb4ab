"""The Segment Anything models that RFMedSAM 2 asks, frozen: SAM 2, and LiteMedSAM with a small memory of its own."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam import Sam
from ultrarefiner_monai.networks.sam2 import Decoded, Features, Sam2
from ultrarefiner_monai.networks.sam2.build import build_memory

SINGLE = slice(0, 1)  # SAM's token for a prompt that is not ambiguous
MEMORY_LAYERS = 2  # of LiteMedSAM's memory attention; SAM 2 has four


class Sam2Body(nn.Module):
    """SAM 2 with its memory; all of it is frozen."""

    def __init__(self, sam: Sam2) -> None:
        super().__init__()
        self.sam = sam.requires_grad_(False)

    @property
    def memory(self) -> Sam2:
        """Who encodes memories and attends to them."""
        return self.sam

    def frozen(self) -> list[nn.Module]:
        """What stays as it came, and in eval mode."""
        return [self.sam]

    def encode(self, pixels: Tensor) -> Features:
        """Features of normalised pixels (N, 3, S, S)."""
        return self.sam.project(self.sam.network.vision_encoder(pixels).fpn_hidden_states)

    def coarse(self, features: Features) -> Tensor:
        """The map (N, 256, S / 16, S / 16) that a memory is made of."""
        return features.stride_16

    def repeat(self, features: Features, times: int) -> Features:
        """Each frame's `times` times in turn."""
        return Features(*(level.repeat_interleave(times, 0) for level in features))

    def ask(
        self, features: Features, boxes: Tensor, masks: Tensor | None = None, attended: Tensor | None = None
    ) -> Decoded:
        """Ask about M boxes (M, 4), NaN for none, and masks, of M features, which `attended` has remembered for."""
        if attended is None:
            return self.sam.decode(features, boxes=boxes, masks=masks)
        sparse, dense = self.sam.encode_prompts(boxes.shape[0], boxes=boxes, masks=masks)
        return self.sam.decode_embedded(features._replace(stride_16=attended), sparse, dense)


class LiteBody(nn.Module):
    """LiteMedSAM, frozen, and a memory that learns: its answer joins the embedding F as F + G(memory), G zero at first.

    The memory works on the grid S / 16, as SAM 2's does; F has S / 4.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam.requires_grad_(False)
        self.memory = build_memory(sam.image_size, MEMORY_LAYERS)
        self.join = nn.Conv2d(sam.embedding_shape[0], sam.embedding_shape[0], 1)
        for parameter in self.join.parameters():
            nn.init.zeros_(parameter)
        network = self.memory.network
        network.mask_downsample.requires_grad_(False)  # from here on what is not used
        for unused in ("memory_embedding", "memory_positional_encoding", "object_pointer"):
            getattr(network, f"no_{unused}").requires_grad_(False)
        network.occlusion_spatial_embedding_parameter.requires_grad_(False)

    def frozen(self) -> list[nn.Module]:
        """What stays as it came, and in eval mode."""
        return [self.sam]

    def encode(self, pixels: Tensor) -> Tensor:
        """The embedding (N, 256, S / 4, S / 4) of normalised pixels (N, 3, S, S)."""
        return self.sam.image_encoder(pixels)

    def coarse(self, features: Tensor) -> Tensor:
        """The map (N, 256, S / 16, S / 16) that a memory is made of."""
        return F.avg_pool2d(features, features.shape[2] * 16 // self.sam.image_size)

    def repeat(self, features: Tensor, times: int) -> Tensor:
        """Each frame's `times` times in turn."""
        return features.repeat_interleave(times, 0)

    def ask(
        self, features: Tensor, boxes: Tensor, masks: Tensor | None = None, attended: Tensor | None = None
    ) -> Decoded:
        """As `Sam2Body.ask`; an absent box is SAM's point that is none."""
        sam = self.sam
        if attended is not None:
            remembered = F.interpolate(self.join(attended), features.shape[2:], mode="bilinear", align_corners=False)
            features = features + remembered
        sparse, dense = sam.encode_prompts(boxes.shape[0], boxes=boxes.nan_to_num(), masks=masks)
        absent = boxes.isnan().any(1)[:, None, None]
        sparse = torch.where(absent, sam.prompt_encoder.not_a_point_embed.weight, sparse)
        positions = sam.dense_positions()
        masks, iou, tokens = sam.mask_decoder.predict_tokens(features, positions, sparse, dense)
        present = iou.new_ones(iou.shape[0], 1)
        return Decoded(masks[:, SINGLE].float(), iou[:, SINGLE].float(), tokens[:, SINGLE], present)


def body_of(sam: Any) -> Sam2Body | LiteBody:
    """What RFMedSAM 2 needs around a Segment Anything model."""
    return Sam2Body(sam) if isinstance(sam, Sam2) else LiteBody(sam)
