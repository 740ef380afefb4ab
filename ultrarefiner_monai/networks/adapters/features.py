"""What two encoders are compared by in distillation."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class BlockFeatures(NamedTuple):
    """Of a stage its `map` (B, C, h, w) behind the neck, and the term a (B, h, w, D) that its last block's adapter adds.

    `lateral`: the neck's 1 x 1 convolution from D to a width C that student and teacher share.
    """

    map: Tensor
    adapted: Tensor
    lateral: nn.Conv2d

    def compared(self) -> dict[str, Tensor]:
        """Maps (B, C, h, w) behind the neck, whose convolution has the weight W and the bias b.

        `sum`: the neck's own map, W y + b of the block's output y and what the neck adds of a coarser stage, so that all
        stages learn. Of it `adapter` W a, and `block` without the adapter: sum = block + adapter.
        """
        weight = self.lateral.weight
        adapter = F.conv2d(self.adapted.permute(0, 3, 1, 2).to(weight.dtype), weight)  # autocast may be over
        return {"sum": self.map, "block": self.map - adapter, "adapter": adapter}


class EncoderFeatures(NamedTuple):
    """What an image encoder makes of a batch: a loss reads one of the three, the others may be absent.

    `embedding` (B, ...), what the decoder reads, of several maps one after the other, flattened; `maps`, those of the neck,
    the finest first, each (B, C, h, w); `blocks`, the stages' last blocks.
    """

    embedding: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    blocks: tuple[BlockFeatures, ...] = ()


@contextmanager
def watch(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Record what modules give in the next forward; the list is filled, in their order, when the context is left."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[module] = output

    found: list[Tensor] = []
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(module.register_forward_hook(keep))
        yield found
    found += [outputs[module] for module in modules]
