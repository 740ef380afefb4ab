"""MONAI dictionary transforms that the bundles' configurations name."""

from .letterbox import Letterboxd, letterbox, undo_letterbox
from .load import LoadGreyd, LoadMapd, LoadMaskd, LoadTruthd
from .repeatable import RepeatableCompose
from .save import SaveMapsd, SaveMaskd
from .simulate import SimulateCoarsed

__all__ = [
    "Letterboxd",
    "LoadGreyd",
    "LoadMapd",
    "LoadMaskd",
    "LoadTruthd",
    "RepeatableCompose",
    "SaveMapsd",
    "SaveMaskd",
    "SimulateCoarsed",
    "letterbox",
    "undo_letterbox",
]
