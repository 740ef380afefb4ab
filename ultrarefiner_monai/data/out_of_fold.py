"""Out-of-fold coarse predictions: maps on disk, the index beside them, and the strict pairing phase 2 starts from.

A prediction folder holds one float32 probability map an image, ``<image path without suffix>.nii.gz`` at the image's
own size, and ``predictions.json``, which says which model of which fold made them from which manifest.
"""

import gzip
import hashlib
import json
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np

from .errors import DataError, raise_problems
from .files import write_atomically
from .manifest import Manifest
from .roots import unsafe

INDEX_NAME = "predictions.json"
SCHEMA = "ultrarefiner_monai/predictions/1"
_LISTED = 50  # ids named for each kind of fault before the message says "and N more"


def map_name(image: str) -> str:
    """File of an image's map inside a prediction folder: its path in the dataset, suffix replaced by ``.nii.gz``."""
    return f"{PurePosixPath(image).with_suffix('')}.nii.gz"


def write_map(path: str | Path, prob: np.ndarray) -> None:
    """Write a probability map (H, W) as float32 NIfTI, atomically; the same map always gives the same bytes.

    The array is stored as (W, H), NIfTI's x before y, which is also what MONAI's readers make of a PNG.

    Raises:
        ValueError: not (H, W), or values that are not probabilities (NaN, below 0, above 1).
    """
    import nibabel

    prob = np.asarray(prob, dtype=np.float32)
    if prob.ndim != 2:
        raise ValueError(f"{path}: a map must be (H, W), found {prob.shape}")
    if not ((prob >= 0) & (prob <= 1)).all():
        raise ValueError(f"{path}: a map must hold probabilities in [0, 1], found NaN or other values")
    image = nibabel.Nifti1Image(np.ascontiguousarray(prob.T), affine=np.eye(4))
    write_atomically(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def read_map(path: str | Path) -> np.ndarray:
    """Read a map written by `write_map`: (H, W) float32, exactly the values written.

    Raises:
        DataError: the file is missing, unreadable or not a plane.
    """
    import nibabel

    with _readable(path):
        # Decompressed as a whole, because only that checks gzip's checksum.
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(Path(path).read_bytes()))
        return np.ascontiguousarray(np.asarray(_plane(image).dataobj, dtype=np.float32).T)


@dataclass
class PredictionIndex:
    """What ``predictions.json`` says of a prediction folder.

    Attributes:
        dataset: name of the dataset.
        phase: training phase whose model predicted (1, 2 or 3).
        fold: fold of the model, which is the fold it was validated on; None for the mean of all folds' models.
        split: "val", "test", "normal" ...: which of the manifest's items were predicted.
        manifest_sha256: hash of the manifest's bytes.
        model_sha256: hash of the model's weights.
        items: ``{"id", "file", "dice", "width", "height"}`` a prediction; dice None where undefined or unknown.
    """

    dataset: str
    phase: int
    fold: int | None
    split: str
    manifest_sha256: str
    model_sha256: str
    items: list[dict[str, Any]] = field(default_factory=list)

    def add(self, item: Mapping[str, Any], dice: float | None = None) -> str:
        """Enter a manifest item's prediction and return the name of its map inside the folder."""
        known = None if dice is None or math.isnan(dice) else float(dice)
        size = {"width": int(item["width"]), "height": int(item["height"])}
        self.items.append({"id": item["id"], "file": map_name(item["image"]), "dice": known, **size})
        return self.items[-1]["file"]

    def write(self, folder: str | Path) -> Path:
        """Write ``folder/predictions.json`` atomically, items sorted by id.

        Raises:
            DataError: an image entered twice, or two images that share a map (names that differ only in the suffix).
        """
        for key in ("id", "file"):
            doubled = [name for name, count in Counter(entry[key] for entry in self.items).items() if count > 1]
            if doubled:
                raise DataError(
                    f"{folder}: predictions with the same {key}: {_some(doubled)}; each image is predicted once"
                )
        content = {"schema": SCHEMA, **asdict(self), "items": sorted(self.items, key=lambda entry: entry["id"])}
        path = Path(folder) / INDEX_NAME
        write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read ``folder/predictions.json``.

        Raises:
            DataError: missing, unreadable, or not this schema.
        """
        path = Path(folder) / INDEX_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema = content.pop("schema")
            index = cls(**content)
            sound = all(entry.keys() >= {"id", "file", "width", "height"} for entry in index.items)
            sound = sound and not any(unsafe(entry["file"]) for entry in index.items)
        except FileNotFoundError as error:
            raise DataError(f"{path}: missing; run phase 1's inference for this fold first") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not an index of predictions ({error}); run the inference again") from error
        if schema != SCHEMA or not sound:
            raise DataError(
                f"{path}: expected schema {SCHEMA} with complete items and paths inside the folder, found {schema}"
            )
        return index


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
        Copies of the items with ``"coarse"``: absolute path of the map.

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
            paired.append({**item, "coarse": str(folder / entry["file"])})
    raise_problems(
        f"predictions do not fit manifest {manifest.name}, run the inference of these folds again",
        (f"{kind} {len(ids)} ({_some(ids)})" for kind, ids in sorted(faults.items())),
    )
    return paired


def mean_of_maps(sources: Sequence[str | Path], out_folder: str | Path) -> PredictionIndex:
    """Average the maps of several folds' models over the same images: what stands for phase 1 on the test images.

    Args:
        sources: prediction folders, one a fold, all of the same phase, split and manifest and the same images.
        out_folder: where the mean maps and their ``predictions.json`` (fold null, dice null) go.

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
        _write_mean(out / entry["file"], [folder / entry["file"] for folder in folders])
    by_fold = sorted(indices, key=lambda index: -1 if index.fold is None else index.fold)
    models = hashlib.sha256("\n".join(index.model_sha256 for index in by_fold).encode()).hexdigest()
    items = [{**entry, "dice": None} for entry in first.items]
    mean = PredictionIndex(first.dataset, first.phase, None, first.split, first.manifest_sha256, models, items)
    mean.write(out)
    return mean


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
    return _file_fault(folder / entry["file"], (item["width"], item["height"]), (entry["width"], entry["height"]))


def _file_fault(path: Path, expected: tuple[int, int], stated: tuple[int, int]) -> str | None:
    """Fault of a map's file, from its header alone."""
    import nibabel

    if not path.is_file():
        return "missing"
    try:
        with _readable(path):
            stored = _plane(nibabel.Nifti1Image.from_filename(path)).shape
    except DataError:
        return "unreadable"
    return None if expected == stated == stored else "wrong-sized"


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Tell whatever is wrong with a map's file in one line."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise DataError(f"{path}: unreadable probability map ({error}); predict this image again") from error


def _plane(image: Any) -> Any:
    """The NIfTI image, if it is a plane (W, H)."""
    if len(image.shape) != 2:
        raise ValueError(f"expected a plane (W, H), found {image.shape}")
    return image


def _check_ensemble(folders: list[Path], indices: list[PredictionIndex]) -> None:
    """Refuse folders that are not several folds' predictions of the same images."""
    if len(indices) < 2:
        raise DataError(f"a mean needs predictions of at least two folds, found {len(indices)} folder(s)")
    kinds = {(index.dataset, index.phase, index.split, index.manifest_sha256) for index in indices}
    if len(kinds) > 1:
        raise DataError(
            "cannot average predictions of different datasets, phases, splits or manifests: " + _some(map(str, folders))
        )
    if len({index.fold for index in indices}) < len(indices):
        raise DataError(f"cannot average folds {[index.fold for index in indices]}: each fold's model counts once")
    counts = Counter(entry["id"] for index in indices for entry in index.items)
    lacking = sorted(name for name, count in counts.items() if count != len(indices))
    if lacking:
        raise DataError(
            f"not predicted once by each of the {len(indices)} models: {_some(lacking)}; run their inference again"
        )


def _write_mean(target: Path, sources: list[Path]) -> None:
    """Write the mean of maps of one size."""
    maps = [read_map(source) for source in sources]
    if len({prob.shape for prob in maps}) > 1:
        raise DataError(
            f"{target.name}: the folds' maps differ in size {[prob.shape for prob in maps]}; predict it again"
        )
    write_map(target, np.mean(maps, axis=0, dtype=np.float64).clip(0, 1))


def _some(names: Iterable[str]) -> str:
    """The names in one line, cut where a reader would stop."""
    names = list(names)
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
