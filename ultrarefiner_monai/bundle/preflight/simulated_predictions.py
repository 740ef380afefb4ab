"""Stand-ins for the out-of-fold predictions that feed a stage, for its demonstration on a fresh clone."""

from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.pixels import lesion_pixels
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.transforms.simulate import simulate

NO_MODEL = "simulated"


def simulate_predictions(manifest: Manifest, root: Root, stage: str, folder: Path) -> None:
    """Write `folder/fold<k>/predictions` and `folder/test` as `stage` would, from true masks with simulated errors.

    The errors depend on the position of an item in the manifest alone, so that a rerun meets the same maps.
    """
    rng = np.random.RandomState(manifest.seed)
    folders = [(fold, "val", folder / f"fold{fold}" / "predictions") for fold in range(manifest.num_folds)]
    for fold, split, target in [*folders, (None, "test", folder / "test")]:
        index = PredictionIndex(manifest.name, stage, fold, split, manifest.sha256, NO_MODEL)
        for item in manifest.split(split, fold or 0):
            mask = lesion_pixels([resolve(root, path) for path in masks_of(item)], item)
            write_map(target / index.add(item), simulate(mask, rng))
        index.write(target)
