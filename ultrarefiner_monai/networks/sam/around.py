"""What networks around a Segment Anything model have in common: its image encoder may be frozen."""

from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from ultrarefiner_monai.networks.sam.model import Sam


class AroundSam(nn.Module):
    """A network that holds a Segment Anything model.

    A frozen image encoder has no trainable weights but LoRA's, stays in eval mode in `train()` and builds no graph
    unless LoRA needs it.

    Args:
        sam: the Segment Anything model.
        freeze_image_encoder: keep its image encoder as it is.
    """

    def __init__(self, sam: Sam, freeze_image_encoder: bool) -> None:
        super().__init__()
        self.sam = sam
        self.freeze_image_encoder = freeze_image_encoder
        if freeze_image_encoder:
            for name, parameter in sam.image_encoder.named_parameters():
                parameter.requires_grad_("lora_" in name)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a frozen image encoder stays in eval mode (dropout and BatchNorm would drift)."""
        super().train(mode)
        if self.freeze_image_encoder:
            self.sam.image_encoder.eval()
        return self

    def embed(self, image: Tensor) -> Tensor:
        """Image embedding (B, C, h, w) of `image` (B, 1, S, S); without a graph where nothing in it is trainable."""
        trainable = any(parameter.requires_grad for parameter in self.sam.image_encoder.parameters())
        with nullcontext() if trainable else torch.no_grad():
            return self.sam.embed(image)
