"""What two encoders are compared by in distillation."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.networks.adapters.places import StageEnd


class BlockFeatures(NamedTuple):
    """Of a stage's last block what it gives, y (B, h, w, D), and the term a (B, h, w, D) its adapter adds to it.

    `lateral`: the neck's 1 x 1 convolution from D to a width that student and teacher share.
    """

    output: Tensor
    adapted: Tensor
    lateral: nn.Conv2d

    def compared(self) -> dict[str, Tensor]:
        """Maps (B, C, h, w) of the lateral convolution, weight W and bias b.

        `sum` W y + b, of it `block` W (y - a) + b without the adapter, and `adapter` W a: sum = block + adapter.
        """
        whole = self.lateral(self.output.permute(0, 3, 1, 2))
        adapter = F.conv2d(self.adapted.permute(0, 3, 1, 2), self.lateral.weight)
        return {"sum": whole, "block": whole - adapter, "adapter": adapter}


class EncoderFeatures(NamedTuple):
    """What an image encoder makes of a batch: a loss reads one of the three, the others may be absent.

    `embedding` (B, C, h, w), what the decoder reads; `maps`, those of the neck, the finest first, each (B, C, h, w);
    `blocks`, the stages' last blocks.
    """

    embedding: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    blocks: tuple[BlockFeatures, ...] = ()


@contextmanager
def watch(ends: Sequence[StageEnd]) -> Iterator[list[BlockFeatures]]:
    """Record the stages' ends of the encoder's next forward; the list is filled when the context is left."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[module] = output

    found: list[BlockFeatures] = []
    with ExitStack() as stack:
        for end in ends:
            for module in (end.block, end.adapter):
                stack.enter_context(module.register_forward_hook(keep))
        yield found
    found += [BlockFeatures(outputs[end.block], outputs[end.adapter], end.lateral) for end in ends]
