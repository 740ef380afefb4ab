"""Writing predictions: probability maps that a later phase can pair, and masks that a person can look at."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from PIL import Image

from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.masks import THRESHOLD, without_islands
from ultrarefiner_monai.metrics.overlap import overlap_metrics


class SaveMapsd(MapTransform):
    """Write each channel of a probability map (C, H, W) into a prediction folder of its own.

    Each goes to the folder of its name in `folder` (or `folder` itself where there is one channel), one NIfTI an image under the
    image's own name; `write_index` completes the folders with their `predictions.json`.

    Args:
        keys: the key of the map.
        folder: where the prediction folders go.
        outputs: name of each output, whose channels come first.
        classes: name of each class that is told apart, whose channels follow.
        index: fields of `PredictionIndex` that all images share, but for the model's hash.
        truth_key: key of the true mask; where there is one, the Dice of each output is noted in its index.
    """

    def __init__(
        self,
        keys: KeysCollection,
        folder: str,
        outputs: tuple[str, ...],
        classes: tuple[str, ...],
        index: Mapping[str, Any],
        truth_key: str = "truth",
    ) -> None:
        super().__init__(keys)
        self.truth_key = truth_key
        channels = (*outputs, *classes)
        names = channels if len(channels) > 1 else ("",)
        self.outputs = len(outputs)
        self.folders = [Path(folder) / name for name in names]
        self.indices = [PredictionIndex(**index, model_sha256="") for _ in names]

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Write the maps of one image and return `data` as it is."""
        maps = data[self.keys[0]].as_subclass(torch.Tensor).float().cpu().clamp(0, 1)
        item = {"id": data["id"], "image": data["name"], "width": int(data["width"]), "height": int(data["height"])}
        for number, (folder, index, prob) in enumerate(zip(self.folders, self.indices, maps, strict=True)):
            dice = self._dice(prob, data) if number < self.outputs else None
            write_map(folder / index.add(item, dice), prob.numpy())
        return data

    def _dice(self, prob: torch.Tensor, data: Mapping[Hashable, Any]) -> float | None:
        if self.truth_key not in data:
            return None
        truth = torch.as_tensor(data[self.truth_key][0]).cpu() > 0
        return overlap_metrics((prob >= THRESHOLD).numpy(), truth.numpy())["dice"]

    def write_index(self, model_sha256: str) -> None:
        """Write `predictions.json` into every folder; `model_sha256` is the hash of the weights that predicted."""
        for folder, index in zip(self.folders, self.indices, strict=True):
            index.model_sha256 = model_sha256
            index.write(folder)


class SaveMaskd(MapTransform):
    """Write a channel of a probability map (C, H, W), thresholded, as an 8-bit PNG (0 and 255) of the image's size.

    Args:
        keys: the key of the map.
        folder: where the masks go; `<image's stem>.png` each.
        channel: that of the mask.
        threshold: probability from which a pixel is lesion.
        islands: share of evidence below which a part of the mask is left out, see `masks.without_islands`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        folder: str,
        channel: int = -1,
        threshold: float = THRESHOLD,
        islands: float = 0.0,
    ) -> None:
        super().__init__(keys)
        self.folder = Path(folder)
        self.channel = channel
        self.threshold = threshold
        self.islands = islands

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Write the mask of one image and return `data` as it is."""
        probability = data[self.keys[0]][self.channel].cpu().numpy()
        mask = without_islands(probability, self.islands, self.threshold) >= self.threshold
        with atomic_write(self.folder / f"{Path(data['image_path']).stem}.png") as file:
            Image.fromarray(mask.astype(np.uint8) * 255).save(file, format="PNG")
        return data
