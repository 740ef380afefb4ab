"""Small networks with random weights as `model.pt` with its card, for tests that need no training."""

from pathlib import Path

import torch
from torch import nn

from ultrarefiner_monai.models import build_network, save_model
from ultrarefiner_monai.networks import PromptGenerator
from ultrarefiner_monai.systems import find_stage

SIZE = 64
PROMPTS = {f"prompt_{name}": value for name, value in PromptGenerator().settings.items()}
COARSE = {"variant": "tiny", "size": SIZE}
REFINER = {"variant": "tiny", "image_size": SIZE, "sam_variant": "tiny", **PROMPTS, "fusion_gamma": 1.0}
PARTS = {"phase1": {"coarse": COARSE}, "phase2": {"refiner": REFINER}}
PARTS["phase3"] = PARTS["phase1"] | PARTS["phase2"]
ASKED = {
    "classes": "benign+malignant",
    "stride": 1,
    "class_mode": "embedding",
    "steps": 7,
    "drift": "mean",
    "class_head": False,
}
PARTS["automedsam"] = {"sam": {"variant": "tiny", "image_size": SIZE, "lora_rank": 0, **ASKED, "residual": True}}
ADAPTED = {"version": None, "adapter_ratio": 0.25, "adapter_scale": 0.5, "edge": "directions"}
PARTS["adapt"] = {"sam": {"variant": "lite_medsam", "image_size": SIZE, **ADAPTED}}
PARTS["distill"] = {"sam": {"variant": "lite_mini", "image_size": SIZE, **ADAPTED}}
UNET = {"kind": "2d", "features": "8+16+16", "image_size": SIZE, "frames": 1, "classes": "lesion", "spacing": None}
PARTS["unet"] = {"unet": UNET}
STEPS = {"prompt_grad": True, "second_box": True, "positions": "current", "window": 6, "missing": "keep_unet"}
PARTS["joint"] = {"unet": UNET, "sam": {"variant": "mini", "version": "2.1", "adapters": "all", **STEPS}}


def card_of(phase: str, **facts: object) -> dict:
    """The card of a model of a stage, as a training writes it, with `facts`."""
    system, stage = find_stage(phase)
    labels = "lesion" if system.labels == "any" else system.labels
    about = {"outputs": list(stage.outputs), "labels": labels, "prompts": system.prompts, "image_size": SIZE}
    network = {part: dict(settings) for part, settings in PARTS[phase].items()}
    named = {"phase": phase} if phase.startswith("phase") else {}
    return {"system": system.name, "stage": phase, **named, **facts, **about, "network": network}


def old_form(card: dict) -> dict:
    """A card as trainings wrote it before there were systems."""
    new = ("system", "stage", "outputs", "labels", "prompts", "image_size", "network")
    return {key: value for key, value in card.items() if key not in new} | card["network"]


def save_untrained(
    path: Path, phase: str, fusion: str = "mean", lora_rank: int = 0, classes: str = "", **facts: object
) -> tuple[Path, nn.Module]:
    """Write the model of a stage, whose masks are uneven, with `facts` in its card; the file and the network."""
    usual, seed = (0.2, 9) if phase == "automedsam" else (0.05, 5)  # there are no points that a mask begins at
    torch.manual_seed(seed)
    card = card_of(phase, **facts)
    if "refiner" in card["network"]:
        card["network"]["refiner"] |= {"fusion_mode": fusion, "lora_rank": lora_rank}
    if phase == "automedsam":
        card["network"]["sam"] |= {"lora_rank": lora_rank} | ({"classes": classes} if classes else {})
    network = build_network(card)
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # adapters and the last layers start at zero
            scale = 0.5 if ".lora_" in name else usual  # a few adapters among many weights have to show
            parameter.add_(scale * torch.randn_like(parameter))
    return save_model(network, path, card), network
