"""Low-rank adapters on the image encoder's attention (Hu et al., LoRA, ICLR 2022), through peft.

peft, which imports transformers, is imported only when an adapter is made.
"""

from typing import Any

from torch import nn

from ultrarefiner_monai.networks.sam.model import Sam

TARGETS = r".*blocks\.\d+\.attn\.qkv"
_MARK = "lora_"


def inject_lora(image_encoder: nn.Module, rank: int) -> None:
    """Add adapters of `rank` to every `attn.qkv` in place; only they stay trainable in the encoder.

    The second factor starts at zero, so the output does not change until training does. The scale alpha / rank is 1.

    Raises:
        ValueError: a rank below 1, or adapters already present.
    """
    if rank < 1:
        raise ValueError(f"LoRA rank: expected at least 1, found {rank}")
    if lora_rank(image_encoder):
        raise ValueError(f"the image encoder already has LoRA adapters of rank {lora_rank(image_encoder)}")
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), image_encoder)
    for name, parameter in image_encoder.named_parameters():
        parameter.requires_grad_(_MARK in name)


def lora_rank(network: nn.Module) -> int:
    """Rank of the adapters in `network`, 0 without any."""
    ranks = [len(parameter) for name, parameter in network.named_parameters() if f"{_MARK}A" in name]
    return ranks[0] if ranks else 0


def merge_lora(sam: Sam) -> None:
    """Add the adapters to the weights they adapt and remove them, in place; the published names are back."""
    for parent in list(sam.image_encoder.modules()):
        adapted: list[tuple[str, Any]] = [item for item in parent.named_children() if hasattr(item[1], "lora_A")]
        for name, child in adapted:
            child.merge(safe_merge=True)
            setattr(parent, name, child.get_base_layer())
