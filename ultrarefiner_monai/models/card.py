"""The card of a trained model (`model.json`), and the network that it describes."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultrarefiner_monai.errors import DataError, one_line
from ultrarefiner_monai.files import json_or_empty, read_json
from ultrarefiner_monai.models.card_schema import NEEDED, check_card
from ultrarefiner_monai.models.old_cards import converted
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.systems import find_system
from ultrarefiner_monai.systems.sequence_keys import SPACING

MOST_WEIGHTS = 2_000_000_000  # SAM's largest has 640 million


def build_network(card: Mapping[str, Any]) -> nn.Module:
    """The network that a card describes, untrained.

    Args:
        card: `system` and `network`, as `read_card` gives them.

    Raises:
        DataError: its settings do not go together, or ask for a network of no reasonable size.
    """
    build = find_system(card["system"]).function("builder")
    try:
        with torch.device("meta"):  # takes no memory
            size = sum(tensor.numel() for tensor in build(card["network"]).state_dict().values())
        if size > MOST_WEIGHTS:
            raise DataError(f"{size:,} weights, expected at most {MOST_WEIGHTS:,}")
        return build(card["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the network of this card cannot be built ({one_line(error)}); use the card that the model came with"
        ) from None


def read_card(model: Path) -> dict[str, Any]:
    """The card (`model.json`) beside a trained model, checked for what its network is built from.

    Cards of older trainings are converted; where they lack the rank of LoRA, it is read from the weights.

    Raises:
        DataError: it cannot be read, or does not say how to build the network.
        CheckpointError: it has no rank, and the weights are absent or damaged.
    """
    path = model.with_suffix(".json")
    card = converted(read_json(path, dict, f"if {model} is a model, keep its card beside it"))
    if missing := [key for key in NEEDED if card.get(key) is None]:
        raise DataError(f"{path}: no {', '.join(missing)} of a trained model; use the card that it came with")
    check_card(path, card)
    stage = find_system(card["system"]).stage(card["stage"])
    refiner = card["network"].get("refiner")
    if isinstance(refiner, dict) and "lora_rank" not in refiner:
        matrices = (tensor for name, tensor in read_torch(model).items() if ".lora_A." in name)  # (rank, inputs)
        refiner["lora_rank"] = next((len(matrix) for matrix in matrices), 0)
    for name in stage.settings.values():
        try:
            value_at(card["network"], name)
        except (KeyError, TypeError):
            raise DataError(f"{path}: no {name} of its network; use the card that the model came with") from None
    try:
        stage.classes_of(card["network"])
    except DataError as error:
        raise DataError(f"{path}: {error}; use the card that the model came with") from None
    return card


def card_or_empty(path: Path) -> dict[str, Any]:
    """A card in the present form, whatever it lacks; empty where there is none, or none that can be read.

    Raises:
        DataError: a field of it has another type or range than it can have, or would run as code.
    """
    card = converted(json_or_empty(path, dict))
    check_card(path, card)
    return card


def spacing_of(card: Mapping[str, Any]) -> float | None:
    """Mm that a pixel of the network's input stands for; None of one that sees images whatever their millimetres."""
    path = find_system(card["system"]).stage(card["stage"]).settings.get(SPACING.name)
    return None if path is None else value_at(card["network"], path)


def value_at(network: Mapping[str, Any], path: str) -> Any:
    """What a card's description of a network has at a dotted path such as "refiner.variant"; KeyError where nothing."""
    return reduce(lambda part, name: part[name], path.split("."), network)
