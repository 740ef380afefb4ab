"""Context and edge adapters of UniUltra (Li et al., IEEE Transactions on Multimedia 2026, arXiv 2511.15771)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EdgeMode = Literal["directions", "magnitude", "none"]

STEMS = ("directions", "magnitude")  # modes that need one
CHANNELS = 4  # of the stem, and of the edge maps that a block reads
# Derivatives along x, y and the two diagonals, as cross-correlations: each sums to 0, its absolute values to 8.
SOBEL = (
    ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0)),
    ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    ((0.0, 1.0, 2.0), (-1.0, 0.0, 1.0), (-2.0, -1.0, 0.0)),
    ((2.0, 1.0, 0.0), (1.0, 0.0, -1.0), (0.0, -1.0, -2.0)),
)
SMALLEST_SQUARE = 1e-12  # keeps the derivative of a magnitude finite where there is no edge


class EdgeStem(nn.Module):
    """Edges of an image's embedded patches, which all blocks of an encoder share.

    A 3 x 3 convolution to four channels and GELU are pooled to a block's grid by their maxima. Then
    "directions": four Sobel derivatives of the channels' mean, as in the paper's figure;
    "magnitude": of each channel the root of the four squared derivatives' sum, after the published code.
    "none" has no stem.

    Borders are replicated: zeros around the image would draw its frame.

    Args:
        width: channels of the embedded patches.
        edge: see above.

    Raises:
        ValueError: an unknown `edge`.
    """

    kernels: Tensor

    def __init__(self, width: int, edge: EdgeMode = "directions") -> None:
        super().__init__()
        if edge not in STEMS:
            raise ValueError(f"edge of a stem must be one of {', '.join(STEMS)}, found {edge!r}")
        self.edge = edge
        self.conv = nn.Conv2d(width, CHANNELS, 3, padding=1, padding_mode="replicate")
        self.register_buffer("kernels", torch.tensor(SOBEL)[:, None], persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Embedded patches (B, width, H, W) to what edges are found in, (B, 4, H, W)."""
        return F.gelu(self.conv(patches))

    def maps(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Edge maps (B, 4, a, b) on a block's `grid` (a, b) of `features` (B, 4, H, W), whatever autocast says."""
        with torch.autocast(features.device.type, enabled=False):
            pooled = F.adaptive_max_pool2d(features.to(self.kernels.dtype), grid)
            if self.edge == "directions":
                return self._derivatives(pooled.mean(1, keepdim=True))
            squares = self._derivatives(pooled.flatten(0, 1)[:, None]).square().sum(1)
            return (squares + SMALLEST_SQUARE).sqrt().view_as(pooled)

    def _derivatives(self, plane: Tensor) -> Tensor:
        """The four derivatives (N, 4, H, W) of planes (N, 1, H, W)."""
        return F.conv2d(F.pad(plane, (1, 1, 1, 1), mode="replicate"), self.kernels)


class ContextEdgeAdapter(nn.Module):
    """What stands beside one block's perceptron: scale * (context + edge).

    Context is a bottleneck, Linear, GELU, Linear, on the block's normalised tokens; edge is a 1 x 1 convolution of the
    edge maps, where there are any. Both last layers start at zero, so that the encoder is the unchanged one until training
    moves them.

    Args:
        width: channels D of the block.
        ratio: width of the bottleneck as a share of D.
        scale: see above.
        edges: whether there are edge maps.

    Raises:
        ValueError: a ratio that leaves no channel.
    """

    def __init__(self, width: int, ratio: float = 0.25, scale: float = 0.5, edges: bool = True) -> None:
        super().__init__()
        hidden = int(width * ratio)
        if hidden < 1:
            raise ValueError(f"adapter ratio: expected at least 1/{width} for {width} channels, found {ratio}")
        self.scale = scale
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        # A 1 x 1 convolution of maps whose channels come last.
        self.edge = nn.Linear(CHANNELS, width) if edges else None
        for last in filter(None, (self.up, self.edge)):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor, edges: Tensor | None) -> Tensor:
        """Normalised tokens (B, a, b, D) and edge maps (B, 4, a, b) to what the block's output gains, (B, a, b, D)."""
        gained = self.up(F.gelu(self.down(tokens)))
        if self.edge is not None and edges is not None:
            gained = gained + self.edge(edges.to(tokens.dtype).permute(0, 2, 3, 1))
        return self.scale * gained
