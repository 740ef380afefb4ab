"""Stand-ins for phase 1's out-of-fold predictions, for a demonstration of phase 2 on a fresh clone."""

from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.transforms.simulate import simulate

NO_MODEL = "simulated"


def simulate_predictions(manifest: Manifest, root: Root, folder: Path) -> None:
    """Write `folder/fold<k>/predictions` and `folder/test` as phase 1 would, from true masks with simulated errors.

    The errors depend on the position of an item in the manifest alone, so that a rerun meets the same maps.
    """
    rng = np.random.RandomState(manifest.seed)
    places = [(fold, "val", folder / f"fold{fold}" / "predictions") for fold in range(manifest.num_folds)]
    for fold, split, target in [*places, (None, "test", folder / "test")]:
        index = PredictionIndex(manifest.name, 1, fold, split, manifest.sha256, NO_MODEL)
        for item in manifest.split(split, fold or 0):
            size = (item["width"], item["height"])
            mask = read_mask([resolve(root, path) for path in masks_of(item)], size=size)
            write_map(target / index.add(item), simulate(mask, rng))
        index.write(target)
