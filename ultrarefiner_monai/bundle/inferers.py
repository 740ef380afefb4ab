"""How a network is called during training and evaluation."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer


class AutocastInferer(SimpleInferer):
    """Call the network under bf16 autocast on any device.

    MONAI's engines only autocast on CUDA; bf16 needs no gradient scaler and is about twice as fast on processors that have it.
    The network sees a plain tensor: meta data would cost time at each of its operations.

    Args:
        amp: whether to autocast at all.
    """

    def __init__(self, amp: bool = False) -> None:
        super().__init__()
        self.amp = amp

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what ``network(inputs, *args, **kwargs)`` returns; a tensor in full precision."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.amp):
            output = super().__call__(inputs.as_subclass(torch.Tensor), network, *args, **kwargs)
        return output.float() if isinstance(output, torch.Tensor) else output


class CoarseRefinedInferer(AutocastInferer):
    """Return coarse and refined logits side by side: (B, 2, H, W), channel 0 coarse, channel 1 the fused refined mask."""

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Call a ``SamRefiner`` or an ``UltraRefiner`` and keep its two masks."""
        parts = super().__call__(inputs, network, *args, **{**kwargs, "return_parts": True})
        return torch.cat((parts.coarse_logits, parts.logits), dim=1).float()
