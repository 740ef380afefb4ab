"""What networks around a Segment Anything model have in common: its image encoder may be frozen."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.sam import Sam
    from ultrarefiner_monai.networks.sam2 import Sam2


def encoder_learns(sam: "Sam | Sam2") -> bool:
    """Whether the image encoder changes in a training: it is tuned, or has adapters, of LoRA or others."""
    return any(parameter.requires_grad for parameter in sam.image_encoder.parameters())


class AroundSam(nn.Module):
    """A network that holds a Segment Anything model.

    A frozen image encoder has no trainable weights but LoRA's and adapters', stays in eval mode in `train()` and builds no
    graph unless those need it. In one that is tuned BatchNorms keep the statistics that they came with: batches are small.

    Args:
        sam: the Segment Anything model.
        freeze_image_encoder: keep its image encoder as it is.
    """

    def __init__(self, sam: "Sam | Sam2", freeze_image_encoder: bool) -> None:
        super().__init__()
        self.sam: Any = sam
        self.freeze_image_encoder = freeze_image_encoder
        if freeze_image_encoder:
            for name, parameter in sam.image_encoder.named_parameters():
                parameter.requires_grad_("lora_" in name)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a frozen image encoder, and BatchNorm in a tuned one, stay in eval mode."""
        super().train(mode)
        if self.freeze_image_encoder:
            self.sam.image_encoder.eval()
        for module in self.sam.image_encoder.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def embed(self, image: Tensor) -> Any:
        """What SAM's own `embed` gives of `image` (B, 1, S, S); without a graph where nothing in it is trainable."""
        with nullcontext() if encoder_learns(self.sam) else torch.no_grad():
            return self.sam.embed(image)
