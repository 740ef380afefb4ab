"""Reading a dataset manifest: which images exist, their patients, groups, folds and hashes.

The file is JSON that `monai.data.load_decathlon_datalist` and Auto3DSeg's fold readers understand. Its writer is
`manifest_build.py`. Nothing in here opens an image.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import DataError, raise_problems

SCHEMA = "ultrarefiner_monai/manifest/1"
DATASETS = ("BUSI", "BUSBRA", "BUS", "BUS_UC", "BUS_UCLM", "UDIAT", "PHANTOM")
SPLITS = ("train", "val", "test", "normal")
LISTS = ("training", "testing", "normal")  # the lists of the file that hold items with files
ITEM_TYPES: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "image": str,
    "label": (str, list),
    "class": str,
    "patient": str,
    "group": str,
    "width": int,
    "height": int,
    "sha256": str,
}

Item = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """One dataset: items as plain dictionaries, folds numbered 0 .. num_folds - 1.

    An item's `width` and `height` (pixels) are the grid of its mask, on which predictions are scored; where the image
    file has another size the item says so in `image_size` and `read_grey(path, size=(width, height))` stretches it.
    `sha256` is the hash of the manifest file's bytes, `header` its remaining top-level values.
    """

    name: str
    num_folds: int
    seed: int
    sha256: str
    training: list[Item]
    testing: list[Item]
    normal: list[Item]
    excluded: list[Item]
    path: Path
    header: dict[str, Any]

    def split(self, split: str, fold: int) -> list[Item]:
        """Items of one split for the model of `fold`: it trains on the other folds and validates on its own.

        "test" is the same for every fold. "normal" leaves out normals of patients the fold's model was trained on (a
        normal item carries the fold of its group where that group has training images).
        """
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if fold not in range(self.num_folds):
            raise DataError(f"manifest {self.name}: fold {fold} does not exist, expected 0 to {self.num_folds - 1}")
        if split == "train":
            return [item for item in self.training if item["fold"] != fold]
        if split == "val":
            return [item for item in self.training if item["fold"] == fold]
        if split == "test":
            return list(self.testing)
        return [item for item in self.normal if item.get("fold", fold) == fold]

    def items(self) -> list[Item]:
        """All items that have files: training, testing and normal."""
        return [*self.training, *self.testing, *self.normal]


def load_manifest(path: str | Path) -> Manifest:
    """Read and validate a manifest file; every fault found is listed in one `DataError`."""
    path = Path(path)
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise DataError(
            f"manifest {path}: cannot be read ({error.strerror}); build it with `manifests build`"
        ) from None
    except ValueError as error:
        raise DataError(f"manifest {path}: not valid JSON in UTF-8 ({error}); build it again") from None
    raise_problems(f"manifest {path}", structure_problems(document) or item_problems(document))
    fields = ("name", "num_folds", "seed", *LISTS, "excluded")
    header = {key: value for key, value in document.items() if key not in fields}
    known = {key: document[key] for key in fields}
    return Manifest(**known, sha256=hashlib.sha256(content).hexdigest(), path=path, header=header)


def structure_problems(document: Any) -> list[str]:
    """Faults that make the items unreadable: missing top-level keys, wrong types, missing or mistyped item keys."""
    if not isinstance(document, dict):
        return [f"expected a JSON object, found {type(document).__name__}"]
    if document.get("schema") != SCHEMA:
        return [f"expected schema {SCHEMA!r}, found {document.get('schema')!r}; build it again"]
    expected = {"name": str, "num_folds": int, "seed": int, **dict.fromkeys((*LISTS, "excluded"), list)}
    problems = [f"{key}: expected {_says(kind)}" for key, kind in expected.items() if not _is(document.get(key), kind)]
    if problems:
        return problems
    for key in LISTS:
        types = {**ITEM_TYPES, "fold": int} if key == "training" else ITEM_TYPES
        for position, item in enumerate(document[key]):
            problems += [f"{key}[{position}]: {fault}" for fault in _type_faults(item, types)]
    return problems


def item_problems(document: dict[str, Any]) -> list[str]:
    """Faults of well-formed items: unsafe paths, ids or images twice, folds out of range, groups in two places."""
    items = [(key, item) for key in LISTS for item in document[key]]
    problems = [f"{item['id']}: {fault}" for _, item in items for path in item_files(item) if (fault := unsafe(path))]
    problems += [f"id {name!r} occurs {count} times" for name, count in _repeated(item["id"] for _, item in items)]
    images = (item["image"] for _, item in items)
    problems += [f"image {name!r} occurs {count} times" for name, count in _repeated(images)]
    folds = range(document["num_folds"])
    problems += [
        f"{item['id']}: fold {item['fold']} is not one of 0 to {len(folds) - 1}"
        for _, item in items
        if "fold" in item and item["fold"] not in folds
    ]
    return problems + straddling(document)


def straddling(document: dict[str, Any]) -> list[str]:
    """Groups and patients whose images lie in more than one fold, or both in training and testing."""
    problems = []
    for unit in ("group", "patient"):
        places: dict[str, set[str]] = {}
        for key in ("training", "testing"):
            for item in document[key]:
                place = f"fold {item['fold']}" if key == "training" else "testing"
                places.setdefault(item[unit], set()).add(place)
        problems += [f"{unit} {n!r} is in {' and '.join(sorted(p))}" for n, p in sorted(places.items()) if len(p) > 1]
    return problems


def unsafe(path: Any) -> str | None:
    """Say why a manifest path may not be used, or return None. Paths are relative to the dataset root, with `/`."""
    if not isinstance(path, str) or not path:
        return f"path {path!r} is not text"
    if "\0" in path or "\\" in path:
        return f"path {path!r} holds a NUL or a backslash"
    if PurePosixPath(path).is_absolute() or path[1:2] == ":":
        return f"path {path!r} is absolute"
    if ".." in PurePosixPath(path).parts:
        return f"path {path!r} leaves the dataset root"
    return None


def item_files(item: Item) -> list[str]:
    """Relative paths of an item's image and masks."""
    return [item["image"], *masks_of(item)]


def masks_of(item: Item) -> list[str]:
    """Relative paths of an item's masks, one or several."""
    return item["label"] if isinstance(item["label"], list) else [item["label"]]


def resolve(root: str | Path, relative: str) -> Path:
    """Path of a manifest entry under `root`; `DataError` when it is unsafe or a link leads out of the root."""
    if fault := unsafe(relative):
        raise DataError(f"{fault}: expected a path below {root}")
    path = Path(root) / relative
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise DataError(
            f"{path}: a link leads out of the dataset root to {path.resolve()}; copy the file into the root"
        )
    return path


def available(manifest: Manifest, root: str | Path) -> tuple[Manifest, dict[str, int]]:
    """Restrict a manifest to the items whose image and masks are all under `root`.

    Returns the restricted manifest and how many items are absent by place ("fold 0", ..., "test", "normal"; only places
    with absences), for the caller to report. The manifest's hash stays that of its file.
    """
    kept: dict[str, Any] = {key: [] for key in LISTS}
    absent: Counter[str] = Counter()
    for key in LISTS:
        for item in getattr(manifest, key):
            if all(resolve(root, path).is_file() for path in item_files(item)):
                kept[key].append(item)
            else:
                place = {"training": f"fold {item.get('fold')}", "testing": "test", "normal": "normal"}[key]
                absent[place] += 1
    return replace(manifest, **kept), dict(sorted(absent.items()))


def check_name(name: str) -> None:
    """Raise `DataError`, with the name probably meant, if `name` is no dataset."""
    if name not in DATASETS:
        close = get_close_matches(str(name).upper().replace("-", "_"), DATASETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(DATASETS)}"
        raise DataError(f"unknown dataset {name!r}: {hint}")


def shipped_manifest(name: str) -> Path:
    """Path of `data_manifests/NAME.json`, of this checkout or below the current folder."""
    check_name(name)
    folders = (Path(__file__).parents[2] / "data_manifests", Path("data_manifests"))
    for folder in folders:
        if (folder / f"{name}.json").is_file():
            return folder / f"{name}.json"
    raise DataError(
        f"no manifest data_manifests/{name}.json: build it with `ultrarefiner manifests build {name} --root ...`"
    )


def _type_faults(item: Any, types: dict[str, type | tuple[type, ...]]) -> list[str]:
    if not isinstance(item, dict):
        return [f"expected an object, found {type(item).__name__}"]
    faults = [f"key {key!r}: expected {_says(kind)}" for key, kind in types.items() if not _is(item.get(key), kind)]
    return faults + (["key 'label': expected at least one mask, found none"] if item.get("label") == [] else [])


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _says(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", int: "a whole number", list: "a list"}
    return " or ".join(names[one] for one in (kind if isinstance(kind, tuple) else (kind,)))


def _repeated(names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted((name, count) for name, count in Counter(names).items() if count > 1)
