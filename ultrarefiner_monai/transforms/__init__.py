"""MONAI dictionary transforms that the bundles' configurations name."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(
    __name__,
    {
        "ClassMaskd": "load",
        "Letterboxd": "letterboxd",
        "LoadGreyd": "load",
        "LoadMapd": "load",
        "LoadMaskd": "load",
        "LoadTruthd": "load",
        "RepeatableCompose": "repeatable",
        "SaveMapsd": "save",
        "SaveMaskd": "save",
        "SimulateCoarsed": "simulate",
        "letterbox": "letterboxd",
        "undo_letterbox": "letterboxd",
    },
)
