"""How a network is called in training and prediction; MONAI's engines take these as inferers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class AutocastInferer:
    """Call the network under bf16 autocast on any device.

    MONAI's engines only autocast on CUDA; bf16 needs no gradient scaler and is about twice as fast on CPUs that have it.
    The network sees a plain tensor: MONAI's metadata would cost time at each of its operations.

    Args:
        amp: whether to autocast at all.
    """

    def __init__(self, amp: bool = False) -> None:
        self.amp = amp

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `network(inputs, *args, **kwargs)` returns; a tensor in full precision."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.amp):
            output = network(inputs.as_subclass(Tensor), *args, **kwargs)
        return output.float() if isinstance(output, Tensor) else output


class OutputsInferer(AutocastInferer):
    """Return the logits of all outputs of a network side by side: (B, outputs, H, W), in their order."""

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Call a network whose parts hold `outputs`, name -> logits (B, 1, H, W)."""
        parts = super().__call__(inputs, network, *args, **{**kwargs, "return_parts": True})
        return torch.cat(list(parts.outputs.values()), dim=1).float()
