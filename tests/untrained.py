"""Small networks with random weights as `model.pt` with its card, for tests that need no training."""

from pathlib import Path

import torch
from torch import nn

from ultrarefiner_monai.models import build_network, save_model
from ultrarefiner_monai.networks import PromptGenerator

SIZE = 64
PROMPTS = {f"prompt_{name}": value for name, value in PromptGenerator().settings.items()}
COARSE = {"variant": "tiny", "size": SIZE}
REFINER = {"variant": "tiny", "image_size": SIZE, "sam_variant": "tiny", **PROMPTS, "fusion_gamma": 1.0}


def save_untrained(
    path: Path, phase: str, fusion: str = "mean", lora_rank: int = 0, **facts: object
) -> tuple[Path, nn.Module]:
    """Write the model of a phase, whose masks are uneven, with `facts` in its card; the file and the network."""
    torch.manual_seed(5)
    refiner = {**REFINER, "fusion_mode": fusion, "lora_rank": lora_rank}
    parts = {"phase1": {"coarse": COARSE}, "phase2": {"refiner": refiner}}
    parts["phase3"] = parts["phase1"] | parts["phase2"]
    card = {"phase": phase, **facts, **parts[phase]}
    network = build_network(card)
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # adapters and the last layers start at zero
            scale = 0.5 if ".lora_" in name else 0.05  # a few adapters among many weights have to show
            parameter.add_(scale * torch.randn_like(parameter))
    return save_model(network, path, card), network
