"""A SAM stand-in of a few hundred weights in which every prompt moves the mask."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FakeSam(nn.Module):
    """Contract of networks.sam.Sam: `embed` and `decode` on a size x size image with a size/8 embedding."""

    variant = "fake"

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.image_size = size
        self.embedding_shape = (4, size // 8, size // 8)
        self.image_encoder = nn.Sequential(nn.Conv2d(1, 4, 8, 8), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.mask_decoder = nn.Conv2d(4, 3, 1)
        self.iou_head = nn.Linear(4, 3)

    def embed(self, image: Tensor) -> Tensor:
        return self.image_encoder(image)

    def decode(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        side = 4 * self.embedding_shape[1]
        logits = F.interpolate(self.mask_decoder(embedding), (side, side))
        axis = torch.arange(side) * self.image_size / side
        if points is not None and labels is not None:
            sign = torch.where(labels == 1, 1.0, -1.0) * (labels >= 0)
            near = (
                torch.exp(-((axis - points[..., :1]).square() / 50))[:, :, None]
                * torch.exp(-((axis - points[..., 1:]).square() / 50))[..., None]
            )
            logits = logits + (sign[..., None, None] * near).sum(1, keepdim=True)
        if boxes is not None:
            x = ((axis - boxes[:, :1]) * (boxes[:, 2:3] - axis) / 100)[:, None]
            y = ((axis - boxes[:, 1:2]) * (boxes[:, 3:] - axis) / 100)[:, :, None]
            logits = logits + (x + y)[:, None]
        if masks is not None:
            logits = logits + F.interpolate(masks, (side, side), mode="bilinear")
        return logits, self.iou_head(embedding.mean((2, 3)))
