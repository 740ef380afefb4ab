"""The card of a trained model (`model.json`), and the network that it describes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.networks import Fusion, PromptGenerator, SamRefiner, UltraRefiner, build_sam, build_transunet

PARTS = {"phase1": {"coarse"}, "phase2": {"refiner"}, "phase3": {"coarse", "refiner"}}  # of a phase's network


def build_network(card: Mapping[str, Any]) -> nn.Module:
    """The network that a card (`model.json`) describes, untrained.

    Args:
        card: `phase`, and what it has of `coarse` and `refiner`, as `read_card` gives them.
    """
    if card["phase"] == "phase1":
        return _build_coarse(card["coarse"])
    refiner = _build_refiner(card["refiner"])
    return refiner if card["phase"] == "phase2" else UltraRefiner(_build_coarse(card["coarse"]), refiner)


def _build_coarse(card: Mapping[str, Any]) -> nn.Module:
    return build_transunet(card["variant"], card["size"])


def _build_refiner(card: Mapping[str, Any]) -> SamRefiner:
    prompts = {key.removeprefix("prompt_"): value for key, value in card.items() if key.startswith("prompt_")}
    fusion = {key.removeprefix("fusion_"): value for key, value in card.items() if key.startswith("fusion_")}
    sam = build_sam(card["variant"], card["image_size"], lora_rank=card["lora_rank"])
    return SamRefiner(sam, PromptGenerator(**prompts), Fusion(**fusion))


def read_card(model: Path) -> dict[str, Any]:
    """The card (`model.json`) beside a trained model, checked for what its network is built from.

    Cards of older trainings lack the rank of LoRA: it is read from the weights then.

    Raises:
        DataError: it cannot be read, or does not say how to build the network.
        CheckpointError: it has no rank, and the weights are absent or damaged.
    """
    path = model.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"card {path}: cannot be read ({error}); keep it beside its model.pt") from None
    if not isinstance(card, dict) or card.get("phase") not in PARTS or not PARTS[card["phase"]] <= card.keys():
        raise DataError(f"card {path}: expected phase, coarse and refiner of a trained model; use the one it came with")
    if "refiner" in card and "lora_rank" not in card["refiner"]:
        card["refiner"]["lora_rank"] = _lora_rank(read_torch(model))
    return card


def size_of(card: Mapping[str, Any]) -> int:
    """Side in pixels of the square that a model's network sees."""
    return card["coarse"]["size"] if card["phase"] == "phase1" else card["refiner"]["image_size"]


def _lora_rank(state: Mapping[str, Tensor]) -> int:
    """Rank of the adapters in a state dict: lines of any of their matrices A (rank, inputs)."""
    return next((len(tensor) for name, tensor in state.items() if ".lora_A." in name), 0)
