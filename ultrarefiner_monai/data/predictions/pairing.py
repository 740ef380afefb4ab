"""The strict pairing of images with their out-of-fold maps, from which phase 2 starts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import SHOWN, PredictionIndex
from ultrarefiner_monai.data.predictions.maps import file_fault
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.errors import DataError, raise_problems, shown


def pair_predictions(
    items: Iterable[Mapping[str, Any]],
    folders: Sequence[str | Path],
    manifest: Manifest,
    models: Mapping[int | None, str] | None = None,
) -> list[dict[str, Any]]:
    """Add to every item the path of its one out-of-fold map.

    An item of fold k must have been predicted by fold k's model, the one that never trained on it; items without a fold
    (test) by the mean of all models (`mean_of_maps`). Predictions of other items are left alone.

    Args:
        items: manifest items.
        folders: prediction folders, usually one a fold.
        manifest: the manifest the items come from.
        models: expected hash of each fold's model, where known.

    Returns:
        Copies of the items with `"coarse"`: absolute path of the map.

    Raises:
        DataError: one error that lists the ids that are missing, doubled, stale (another manifest or model), of a wrong
            fold, wrong-sized or unreadable.
    """
    found = _collect(folders)
    paired, faults = [], defaultdict(list)
    for item in items:
        fault = _fault(item, found[item["id"]], manifest, models or {})
        if fault:
            faults[fault].append(item["id"])
        else:
            folder, _, entry = found[item["id"]][0]
            paired.append({**item, "coarse": str(resolve(folder, entry["file"]))})
    raise_problems(
        f"predictions do not fit manifest {manifest.name}, run the inference of these folds again",
        (f"{kind} {len(ids)} ({shown(ids, SHOWN)})" for kind, ids in sorted(faults.items())),
    )
    return paired


def _collect(folders: Sequence[str | Path]) -> dict[str, list[tuple[Path, PredictionIndex, dict[str, Any]]]]:
    """All predictions of the folders by image id."""
    found: dict[str, list[tuple[Path, PredictionIndex, dict[str, Any]]]] = defaultdict(list)
    for folder in folders:
        index = PredictionIndex.load(folder)
        for entry in index.items:
            found[entry["id"]].append((Path(folder).resolve(), index, entry))
    return found


def _fault(
    item: Mapping[str, Any],
    predictions: list[tuple[Path, PredictionIndex, dict[str, Any]]],
    manifest: Manifest,
    models: Mapping[int | None, str],
) -> str | None:
    """Why an item's predictions cannot be used, or None."""
    if not predictions:
        return "missing"
    if len(predictions) > 1:
        return "doubled"
    folder, index, entry = predictions[0]
    if index.manifest_sha256 != manifest.sha256 or index.model_sha256 != models.get(index.fold, index.model_sha256):
        return "stale"
    if index.fold != item.get("fold"):
        return "wrong fold"
    try:
        file = resolve(folder, entry["file"])
    except DataError:
        return "linked out of their folder"
    return file_fault(file, (item["width"], item["height"]), (entry["width"], entry["height"]))
