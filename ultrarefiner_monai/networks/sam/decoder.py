"""SAM's prompt encoder and mask decoder for batches: one prompt set per image, any number of images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

_modeling = import_segment_anything("modeling")


class PromptEncoder(_modeling.PromptEncoder):  # type: ignore[name-defined]
    """segment-anything's prompt encoder with the points embedded by selection instead of indexed assignment.

    Same parameters and numbers; no data-dependent shapes, so a GPU need not wait and `torch.compile` need not break.
    """

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        """(B, N, 2) pixels and (B, N) labels (1 lesion, 0 background, -1 none) -> (B, N or N + 1, C)."""
        if pad:
            points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        position = self.pe_layer.forward_with_coords(points + 0.5, self.input_image_size)  # to the pixel's centre
        label = labels[..., None]
        background, lesion = (self.point_embeddings[i].weight for i in (0, 1))
        embedding = position + torch.where(label == 1, lesion, torch.where(label == 0, background, 0))
        return torch.where(label == -1, self.not_a_point_embed.weight, embedding)


class MaskDecoder(_modeling.MaskDecoder):  # type: ignore[name-defined]
    """segment-anything's mask decoder without the repetition of one image's embedding for each prompt set."""

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Masks (B, tokens, 4h, 4w) and their IoU (B, tokens) from B embeddings and B prompt sets.

        `image_pe` is (1, C, h, w): it is only ever added, so it broadcasts.
        """
        return self.predict_tokens(image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings)[:2]

    def predict_tokens(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`predict_masks`, and the tokens (B, tokens, C) that the masks are made from."""
        batch = image_embeddings.shape[0]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch, -1, -1)
        tokens = torch.cat([outputs, sparse_prompt_embeddings], dim=1)
        tokens, pixels = self.transformer(image_embeddings + dense_prompt_embeddings, image_pe, tokens)
        pixels = self.output_upscaling(pixels.transpose(1, 2).unflatten(2, image_embeddings.shape[2:]))
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        kernels = [mlp(token) for mlp, token in zip(self.output_hypernetworks_mlps, mask_tokens.unbind(1), strict=True)]
        masks = torch.einsum("btc,bchw->bthw", torch.stack(kernels, dim=1), pixels)
        return masks, self.iou_prediction_head(tokens[:, 0]), mask_tokens
