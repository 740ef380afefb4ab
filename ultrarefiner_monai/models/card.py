"""The card of a trained model (`model.json`), and the network that it describes."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from torch import nn

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.models.old_cards import converted
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.systems import find_system


def build_network(card: Mapping[str, Any]) -> nn.Module:
    """The network that a card describes, untrained.

    Args:
        card: `system` and `network`, as `read_card` gives them.
    """
    return find_system(card["system"]).function("builder")(card["network"])


def read_card(model: Path) -> dict[str, Any]:
    """The card (`model.json`) beside a trained model, checked for what its network is built from.

    Cards of older trainings are converted; where they lack the rank of LoRA, it is read from the weights.

    Raises:
        DataError: it cannot be read, or does not say how to build the network.
        CheckpointError: it has no rank, and the weights are absent or damaged.
    """
    path = model.with_suffix(".json")
    card = converted(read_json(path, dict, "keep the card beside its model.pt"))
    if missing := [key for key in ("system", "stage", "image_size", "network") if card.get(key) is None]:
        raise DataError(f"{path}: no {', '.join(missing)} of a trained model; use the card that it came with")
    refiner = card["network"].get("refiner")
    if refiner and "lora_rank" not in refiner:
        matrices = (tensor for name, tensor in read_torch(model).items() if ".lora_A." in name)  # (rank, inputs)
        refiner["lora_rank"] = next((len(matrix) for matrix in matrices), 0)
    for name in find_system(card["system"]).stage(card["stage"]).settings.values():
        try:
            value_at(card["network"], name)
        except (KeyError, TypeError):
            raise DataError(f"{path}: no {name} of its network; use the card that the model came with") from None
    return card


def value_at(network: Mapping[str, Any], path: str) -> Any:
    """What a card's description of a network has at a dotted path such as "refiner.variant"; KeyError where nothing."""
    return reduce(lambda part, name: part[name], path.split("."), network)
