"""The mean of several models' maps, which stands for a stage on the test images."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.predictions.index import SHOWN, PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map, write_map
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.errors import DataError, shown


def mean_of_maps(sources: Sequence[str | Path], out_folder: str | Path) -> PredictionIndex:
    """Average the maps of several folds' models over the same images: what stands for phase 1 on the test images.

    Args:
        sources: prediction folders, one a fold, all of the same phase, split and manifest and the same images.
        out_folder: where the mean maps and their `predictions.json` (fold null, dice null) go.

    Returns:
        The index written; its model hash is the hash of the models' hashes in the order of their folds.

    Raises:
        DataError: folders that do not belong together, or images that one of the models has not predicted.
    """
    folders = [Path(source) for source in sources]
    indices = [PredictionIndex.load(folder) for folder in folders]
    _check_ensemble(folders, indices)
    first, out = indices[0], Path(out_folder)
    for entry in first.items:
        _write_mean(resolve(out, entry["file"]), [resolve(folder, entry["file"]) for folder in folders])
    by_fold = sorted(indices, key=lambda index: -1 if index.fold is None else index.fold)
    models = hashlib.sha256("\n".join(index.model_sha256 for index in by_fold).encode()).hexdigest()
    items = [{**entry, "dice": None} for entry in first.items]
    mean = replace(first, fold=None, model_sha256=models, items=items)
    mean.write(out)
    return mean


def _check_ensemble(folders: list[Path], indices: list[PredictionIndex]) -> None:
    """Refuse folders that are not several folds' predictions of the same images."""
    if len(indices) < 2:
        raise DataError(f"a mean needs predictions of at least two folds, found {len(indices)} folder(s)")
    kinds = {(index.dataset, index.stage, index.split, index.manifest_sha256, index.prompts) for index in indices}
    if len(kinds) > 1:
        raise DataError(
            "cannot average predictions of different datasets, stages, splits, manifests or prompts: "
            + shown(folders, SHOWN)
        )
    if len({index.fold for index in indices}) < len(indices):
        raise DataError(f"cannot average folds {[index.fold for index in indices]}: each fold's model counts once")
    counts = Counter(entry["id"] for index in indices for entry in index.items)
    lacking = sorted(name for name, count in counts.items() if count != len(indices))
    if lacking:
        raise DataError(
            f"not predicted once by each of the {len(indices)} models: {shown(lacking, SHOWN)}; run their inference again"
        )


def _write_mean(target: Path, sources: list[Path]) -> None:
    """Write the mean of maps of one size."""
    maps = [read_map(source) for source in sources]
    if len({prob.shape for prob in maps}) > 1:
        raise DataError(
            f"{target.name}: the folds' maps differ in size {[prob.shape for prob in maps]}; predict it again"
        )
    write_map(target, np.mean(maps, axis=0, dtype=np.float64).clip(0, 1))
