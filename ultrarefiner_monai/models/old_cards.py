"""The cards of UltraRefiner's models from before there were systems: `coarse` and `refiner` at the top."""

from collections.abc import Mapping
from typing import Any

from ultrarefiner_monai.systems import DEFAULT, find_system

PARTS = ("coarse", "refiner")


def converted(card: Mapping[str, Any]) -> dict[str, Any]:
    """`card` in the present form; one that has it already stays as it is, as does one of no known stage."""
    system = find_system(DEFAULT)
    stage = next((stage for stage in system.stages if stage.name == card.get("phase")), None)
    if "system" in card or stage is None:
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
