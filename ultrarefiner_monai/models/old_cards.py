"""Cards of earlier trainings: UltraRefiner's from before there were systems, and those from before a setting of their network."""

from collections.abc import Mapping
from typing import Any

from ultrarefiner_monai.systems import DEFAULT, find_system

PARTS = ("coarse", "refiner")  # at the top of a card from before there were systems
LATER: dict[str, dict[str, dict[str, Any]]] = {  # settings that came later, as networks were before them
    "automedsam": {"sam": {"class_head": False}},
    "rfmedsam2": {"unet": {"spacing": None}},
}


def converted(card: Mapping[str, Any]) -> dict[str, Any]:
    """`card` in the present form, in which one of no known stage stays as it is."""
    if "system" in card:
        return _completed(card)
    system = find_system(DEFAULT)
    stage = next((stage for stage in system.stages if stage.name == card.get("phase")), None)
    if stage is None:
        return dict(card)
    network = {part: card[part] for part in PARTS if isinstance(card.get(part), Mapping)}
    sizes = [network[part].get(key) for part, key in (("refiner", "image_size"), ("coarse", "size")) if part in network]
    return {
        "system": system.name,
        "stage": stage.name,
        **{key: value for key, value in card.items() if key not in PARTS},
        "outputs": list(stage.outputs),
        "labels": system.labels,
        "prompts": system.prompts,
        "image_size": next(iter(sizes), None),
        "network": network,
    }


def _completed(card: Mapping[str, Any]) -> dict[str, Any]:
    later, network = LATER.get(card["system"], {}) if isinstance(card["system"], str) else {}, card.get("network")
    if not isinstance(network, Mapping):
        return dict(card)
    parts = {
        name: {**later.get(name, {}), **part} if isinstance(part, Mapping) else part for name, part in network.items()
    }
    return {**card, "network": parts}
