"""Segment Anything 2 for batches of letterboxed ultrasound images (Ravi et al., ICLR 2025), around transformers' modules."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.model import full_precision
from ultrarefiner_monai.networks.sam.pixels import check_pixels, imagenet_pixels

CORNERS = (2, 3)  # SAM's labels of a box's two corners
ABSENT = -1  # label of a point that is none


class Features(NamedTuple):
    """What the mask decoder sees of B images: (B, 32, S / 4, S / 4), (B, 64, S / 8, S / 8), (B, 256, S / 16, S / 16)."""

    stride_4: Tensor
    stride_8: Tensor
    stride_16: Tensor


class Decoded(NamedTuple):
    """The decoder's answers to M prompt sets, K = 1 or 3 masks each.

    `logits` (M, K, S / 4, S / 4) and `iou` (M, K), which it predicts for them, are float32; `tokens` (M, K, 256) and
    `presence` (M, 1), the logit of an object being in the picture at all, are for the memory.
    """

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    presence: Tensor


class Sam2(nn.Module):
    """SAM 2's image encoder, prompt encoder and mask decoder, asked about still images.

    Args:
        network: transformers' `Sam2VideoModel`, whose parts keep their names; its own forward passes are not used.
        variant: name `build_sam2` knows it by.
        version: `2.0` or `2.1`.
        image_size: input side S in pixels, a multiple of 32.
    """

    def __init__(self, network: Any, *, variant: str, version: str, image_size: int) -> None:
        super().__init__()
        self.network = network
        self.variant = variant
        self.version = version
        self.image_size = image_size

    @property
    def image_encoder(self) -> nn.Module:
        """Hiera and the feature pyramid: `backbone.patch_embed`, `backbone.blocks`, `neck`."""
        return self.network.vision_encoder

    def normalise(self, image: Tensor) -> Tensor:
        """Scale the pixels of (B, 1, S, S) in [0, 1] for the encoder, (B, 3, S, S); the letterbox's padding is zero.

        Raises:
            ValueError: another shape, or pixels far outside [0, 1].
        """
        check_pixels(image, self.image_size, "Sam2")
        return imagenet_pixels(image)

    def embed(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's maps of images (B, 1, S, S) in [0, 1]: (B, 256, side, side) for sides S / 4, S / 8, S / 16."""
        return self.network.vision_encoder(self.normalise(image)).fpn_hidden_states

    def project(self, maps: tuple[Tensor, Tensor, Tensor]) -> Features:
        """Narrow the two finer maps of `embed` with the decoder's own convolutions."""
        decoder = self.network.mask_decoder
        return Features(decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1]), maps[2])

    def features(self, image: Tensor) -> Features:
        """`embed` and `project`; 8.4 MB an image of 1024 pixels in half precision."""
        return self.project(self.embed(image))

    def decode(
        self,
        features: Features,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        image: Tensor | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """Predict the masks of M prompt sets in one batched call, without memory of other images.

        Args:
            features: of B images.
            points: (M, N, 2) as (x, y) in pixels of the S x S image, pixel centres at integers.
            labels: (M, N): 1 lesion, 0 background, -1 no point.
            boxes: (M, 4) as x1, y1, x2, y2; a row with NaN is no box.
            masks: (M, 1, H, W) logits at any size.
            image: (M,) number of the image that each prompt set asks about; None: M is B, one for each.
            multimask: three candidates for an ambiguous prompt instead of one mask.

        Raises:
            ValueError: points without labels or labels without points, or another number of prompt sets than M.
        """
        if image is not None:
            features = Features(*(level[image] for level in features))
        sparse, dense = self.encode_prompts(features.stride_16.shape[0], points, labels, boxes, masks)
        still = features.stride_16 + self.network.no_memory_embedding.transpose(1, 2)[..., None]
        return self.decode_embedded(features._replace(stride_16=still), sparse, dense, multimask)

    def decode_embedded(self, features: Features, sparse: Tensor, dense: Tensor, multimask: bool = False) -> Decoded:
        """`decode` with prompts that are embedded, and features that hold their memory, or its absence, already."""
        dtype = self.network.no_memory_embedding.dtype  # a cache may hold half precision
        stride_4, stride_8, stride_16 = (level.to(dtype) for level in features)
        logits, iou, tokens, presence = self.network.mask_decoder(
            image_embeddings=stride_16,
            image_positional_embeddings=self._grid_positions(),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[stride_4, stride_8],
        )
        return Decoded(logits[:, 0].float(), iou[:, 0].float(), tokens[:, 0], presence[:, 0])

    def encode_prompts(
        self,
        count: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sparse (M, n, C) and dense (M, C, S / 16, S / 16) embeddings of M = `count` prompt sets, in float32.

        A box is two points with labels of their own. What is None is absent for all of them.
        """
        if (points is None) != (labels is None):
            raise ValueError("points and labels go together; give both or neither")
        prompts = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        for name, prompt in prompts.items():
            if prompt is not None and prompt.shape[0] != count:
                raise ValueError(f"{name}: expected one prompt set for each mask ({count}), found {prompt.shape[0]}")
        asked = [] if boxes is None else [_corners(boxes)]
        if points is not None and labels is not None:
            asked.append((points, labels))
        encoder = self.network.prompt_encoder
        absent = encoder.no_mask_embed.weight
        with full_precision(absent):
            sparse = self._embed_points(asked) if asked else absent.new_zeros(count, 0, absent.shape[1])
            if masks is None:
                return sparse, absent[..., None, None].expand(count, -1, *self._grid)
            size = tuple(4 * side for side in self._grid)
            resized = F.interpolate(masks.float(), size, mode="bilinear", align_corners=False, antialias=True)
            return sparse, encoder.mask_embed(resized)

    @property
    def _grid(self) -> tuple[int, int]:
        return self.image_size // 16, self.image_size // 16

    def _embed_points(self, asked: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Points (M, n, 2) with labels (M, n) of several kinds, and the empty one SAM ends them with: (M, n + 1, C)."""
        encoder = self.network.prompt_encoder
        points = F.pad(torch.cat([points.float() for points, _ in asked], dim=1), (0, 0, 0, 1))
        label = F.pad(torch.cat([labels.long() for _, labels in asked], dim=1), (0, 1), value=ABSENT)
        position = encoder.shared_embedding((points + 0.5) / self.image_size)  # of the pixel's centre
        known = position + encoder.point_embed(label.clamp_min(0))
        return torch.where(label[..., None] == ABSENT, encoder.not_a_point_embed.weight, known)

    def _grid_positions(self) -> Tensor:
        """Position codes of the stride-16 map, (1, C, S / 16, S / 16), in float32."""
        embedding = self.network.prompt_encoder.shared_embedding
        with full_precision(embedding.positional_embedding):
            centres = [(torch.arange(n, device=embedding.positional_embedding.device) + 0.5) / n for n in self._grid]
            y, x = torch.meshgrid(*centres, indexing="ij")
            return embedding(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) as points (M, 2, 2) and their labels (M, 2)."""
    labels = torch.tensor(CORNERS, device=boxes.device)
    absent = boxes.isnan().any(1, keepdim=True)
    return boxes.nan_to_num().unflatten(1, (2, 2)), torch.where(absent, ABSENT, labels)
