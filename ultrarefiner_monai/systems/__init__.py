"""Systems: methods of segmentation by name, and the stages each is trained in. Loads no torch.

A system is a module with a `SYSTEM`, registered here by its name and imported when it is used.
"""

from importlib import import_module

from ultrarefiner_monai.errors import DataError, did_you_mean
from ultrarefiner_monai.systems.system import Stage, System

SYSTEMS = {
    "ultrarefiner": "ultrarefiner_monai.systems.ultrarefiner",
    "automedsam": "ultrarefiner_monai.systems.automedsam",
    "uniultra": "ultrarefiner_monai.systems.uniultra",
    "rfmedsam2": "ultrarefiner_monai.systems.rfmedsam2",
}
DEFAULT = "ultrarefiner"  # also what cards, predictions and cross-validations that name no system are of

__all__ = ["DEFAULT", "SYSTEMS", "Stage", "System", "all_stages", "find_stage", "find_system"]


def find_system(name: str = DEFAULT) -> System:
    """The system `name`.

    Raises:
        DataError: there is none of that name.
    """
    if name not in SYSTEMS:
        raise DataError(f"unknown system '{name}': {did_you_mean(str(name), SYSTEMS)}")
    return import_module(SYSTEMS[name]).SYSTEM


def all_stages() -> dict[str, System]:
    """The system of every stage, by the stage's name."""
    return {stage.name: system for system in map(find_system, SYSTEMS) for stage in system.stages}


def find_stage(name: str) -> tuple[System, Stage]:
    """The stage `name` and the system that it belongs to.

    Raises:
        DataError: no system has one of that name.
    """
    for system in map(find_system, SYSTEMS):  # no system is loaded behind the one that has it
        for stage in system.stages:
            if stage.name == name:
                return system, stage
    raise DataError(f"unknown stage '{name}': {did_you_mean(str(name), all_stages())}")
