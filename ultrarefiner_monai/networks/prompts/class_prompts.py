"""Prompts from a class alone: the diffusion-style encoder of AutoMedSAM (Huang et al., arXiv 2502.06817).

A U-Net of constant resolution turns an image's embedding and a class into the two kinds of prompt embeddings that SAM's
mask decoder takes. "Diffusion-style", since its input is noised in closed form and one pass of the network stands for the way
back: no noise is predicted and no steps are taken in turn.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ClassMode = Literal["embedding", "scalar"]
Drift = Literal["mean", "sum"]
TOKENS = 2  # as many as a box has
PLANE_DEVIATION = 0.02  # of a class's plane at first, as is usual for learned embeddings (Devlin et al., BERT, 2019)


class PromptEmbeddings(NamedTuple):
    """Prompts as SAM's mask decoder takes them: `sparse` (B, n, C) tokens and `dense` (B, C, h, w)."""

    sparse: Tensor
    dense: Tensor


def noise_scale(steps: int) -> float:
    """Standard deviation of the sum of eps_t / (t + 1) over t = 1..steps, eps_t being standard normal."""
    return math.sqrt(sum(1 / k**2 for k in range(2, steps + 2)))


class ClassPromptEncoder(nn.Module):
    """Prompt embeddings for each image and class.

    F is the embedding in units of its own standard deviation: that of LiteMedSAM's is 0.1, which the published noise would
    drown. The noised embedding is F_T = F + d phi(c) + s_T eps, with the class plane phi(c) (B, 1, h, w), d = 1 for the drift
    "mean" and T for "sum" (as in the published code, where T steps add the plane each time), and s_T = `noise_scale(T)`.
    `draw_noise` makes the last term, for trainings alone.

    Then two levels of features go down to a bottleneck, which two gates weight by the class: one pixel by pixel for the dense
    embedding, one channel by channel for the tokens; two decoders lead back, and the tokens are the means of the upper and of the
    lower half of theirs. All convolutions are 3 x 3 with padding 1, without normalisation; the last of each decoder has no ReLU,
    for SAM's own prompt embeddings are signed, and starts at zero, so that an untrained encoder adds nothing to what it is
    added to.

    What the U-Net sees of the image around a cell is nine cells on each side. With a stride it works on means of
    `stride` x `stride` cells; h and w are those of the means, the dense embedding's too. As published it is 1.

    Args:
        classes: number K of classes, which are 1..K; 0 is the background.
        grid: of the embedding, rows and columns.
        channels: C of the embedding.
        stride: see above.
        class_mode: "embedding": each class has a plane of its own. "scalar": one linear layer of the number of the class (as
            published), which puts classes on a line.
        steps: T; 0 is no noise.
        drift: see above.
        zero_start: whether the last layers start at zero.

    Raises:
        ValueError: fewer than one class, negative steps, a stride that does not divide the grid, or an unknown mode or drift.
    """

    def __init__(
        self,
        classes: int,
        grid: tuple[int, int],
        channels: int = 256,
        *,
        stride: int = 1,
        class_mode: ClassMode = "embedding",
        steps: int = 7,
        drift: Drift = "mean",
        zero_start: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in (("classes", classes, 1), ("steps", steps, 0)):
            if value < least:
                raise ValueError(f"{name} must be >= {least}, found {value}")
        for name, chosen, known in (("class_mode", class_mode, ClassMode), ("drift", drift, Drift)):
            if chosen not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, found {chosen!r}")
        if stride < 1 or any(cells % stride for cells in grid):
            raise ValueError(f"stride must be >= 1 and divide the grid {grid}, found {stride}")
        height, width = (cells // stride for cells in grid)
        self.classes = classes
        self.grid = grid
        self.stride = stride
        self.class_mode: ClassMode = class_mode
        self.steps = steps
        self.drift: Drift = drift
        self.plane = (
            nn.Embedding(classes + 1, height * width) if class_mode == "embedding" else nn.Linear(1, height * width)
        )
        if class_mode == "embedding":
            nn.init.normal_(self.plane.weight, std=PLANE_DEVIATION)
        self.enc1 = nn.Sequential(*_convolution(channels + 1, 64), *_convolution(64, 64))
        self.enc2 = nn.Sequential(*_convolution(64, 128), *_convolution(128, 128))
        self.middle = nn.Sequential(*_convolution(128, 256), *_convolution(256, 128))
        self.dense_gate = nn.Conv2d(129, 128, 1)
        self.sparse_gate = nn.Conv2d(129, 128, 1)
        self.dense_decoder = _Decoder(channels)
        self.sparse_decoder = _Decoder(channels)
        if zero_start:
            for decoder in (self.dense_decoder, self.sparse_decoder):
                nn.init.zeros_(decoder.last.weight)
                nn.init.zeros_(decoder.last.bias)  # type: ignore[arg-type]

    def draw_noise(self, embedding: Tensor) -> Tensor:
        """s_T eps (B, K, C, h, w) for the K classes of each image of `embedding`, from torch's own generator.

        It is drawn image by image, so that a batch in pieces learns from the same noise as the whole batch.
        """
        shape = (self.classes, embedding.shape[1], *(cells // self.stride for cells in self.grid))
        drawn = [torch.randn(shape, dtype=embedding.dtype, device=embedding.device) for _ in range(embedding.shape[0])]
        return noise_scale(self.steps) * torch.stack(drawn)

    def forward(self, embedding: Tensor, label: Tensor, noise: Tensor | None = None) -> PromptEmbeddings:
        """Encode one class an image.

        Args:
            embedding: (B, C, *grid) from SAM's image encoder.
            label: (B,) class numbers from 1 to K.
            noise: (B, C, h, w) to add; None: none.

        Raises:
            ValueError: another grid.
        """
        if tuple(embedding.shape[2:]) != self.grid:
            raise ValueError(
                f"class prompts are made for embeddings of {self.grid}, found {tuple(embedding.shape[2:])}"
            )
        seen = F.avg_pool2d(embedding, self.stride) if self.stride > 1 else embedding
        plane = self._class_plane(label, seen)
        noised = seen / seen.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
        noised = noised + (plane if self.drift == "mean" else self.steps * plane)
        if noise is not None:
            noised = noised + noise
        high = self.enc1(torch.cat([noised, plane], 1))
        low = self.enc2(high)
        middle = self.middle(low)
        told = torch.cat([middle, self._gate_plane(label, plane)], 1)
        dense = self.dense_decoder(self.dense_gate(told) * middle, low, high)
        weights = self.sparse_gate(told.mean((2, 3), keepdim=True)).sigmoid()
        sparse = self.sparse_decoder(weights * middle, low, high)
        tokens = F.adaptive_avg_pool2d(sparse, (TOKENS, 1)).flatten(2).transpose(1, 2)
        return PromptEmbeddings(tokens, dense)

    def _class_plane(self, label: Tensor, seen: Tensor) -> Tensor:
        """phi(c) as (B, 1, h, w), as large as what is `seen` of the embedding (B, C, h, w)."""
        number = label if self.class_mode == "embedding" else label[:, None].to(seen.dtype)
        return self.plane(number).unflatten(1, (1, *seen.shape[2:])).to(seen.dtype)

    def _gate_plane(self, label: Tensor, plane: Tensor) -> Tensor:
        """What tells the gates of the class, (B, 1, h, w): its number as published, or its own plane."""
        return plane if self.class_mode == "embedding" else label[:, None, None, None].to(plane.dtype).expand_as(plane)


class _Decoder(nn.Module):
    """Back from the bottleneck to C channels, past the features of the way down."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(256, 128), *_convolution(128, 64))
        self.second = nn.Sequential(*_convolution(128, 64))
        self.last = nn.Conv2d(64, channels, 3, padding=1)

    def forward(self, gated: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(B, 128, h, w), (B, 128, h, w) and (B, 64, h, w) -> (B, C, h, w)."""
        up = self.first(torch.cat([gated, low], 1))
        return self.last(self.second(torch.cat([up, high], 1)))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()
