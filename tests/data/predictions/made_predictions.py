"""Prediction folders made for tests."""

from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map

HASH, MODEL = "a" * 64, "b" * 64
HEIGHT, WIDTH = 5, 8


def item(number: int, fold: int | None) -> dict:
    place = {} if fold is None else {"fold": fold}
    return {"id": f"bus_{number}", "image": f"Images/bus_{number}.png", "width": WIDTH, "height": HEIGHT, **place}


def predict(folder: Path, items: list[dict], fold: int | None, value: float = 0.5, **changes) -> PredictionIndex:
    fields = {
        "dataset": "BUSBRA",
        "stage": "phase1",
        "fold": fold,
        "split": "val",
        "manifest_sha256": HASH,
        "model_sha256": MODEL,
    }
    index = PredictionIndex(**{**fields, **changes})
    for entry in items:
        write_map(folder / index.add(entry, 0.8), np.full((entry["height"], entry["width"]), value))
    index.write(folder)
    return index
