"""MONAI dictionary transforms that the bundles' configurations name."""

from ultrarefiner_monai.networks.letterbox import letterbox, undo_letterbox
from ultrarefiner_monai.transforms.letterboxd import Letterboxd
from ultrarefiner_monai.transforms.load import LoadGreyd, LoadMapd, LoadMaskd, LoadTruthd
from ultrarefiner_monai.transforms.repeatable import RepeatableCompose
from ultrarefiner_monai.transforms.save import SaveMapsd, SaveMaskd
from ultrarefiner_monai.transforms.simulate import SimulateCoarsed

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
