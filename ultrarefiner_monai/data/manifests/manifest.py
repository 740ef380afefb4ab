"""Reading a dataset manifest: which images exist, their patients, groups, folds and hashes.

The file is JSON that `monai.data.load_decathlon_datalist` and Auto3DSeg's fold readers understand. Its writer is
`build.py`. Nothing in here opens an image.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.datasets import DATASETS, check_name
from ultrarefiner_monai.data.manifests.items import LISTS, Item, images_of, is_volume, item_files, place_of
from ultrarefiner_monai.data.manifests.validate import document_faults
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.errors import CodeError, DataError, did_you_mean, one_line, raise_problems
from ultrarefiner_monai.files import bytes_of, parse_json
from ultrarefiner_monai.shipped import shipped

SPLITS = ("train", "val", "test", "normal", "train_normal", "external")


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
        """Images of one split for the model of `fold`: it trains on the other folds and validates on its own.

        Images are items as they are, or slices of those that are volumes (`images_of`).

        "test" is the same for every fold. Normals have folds too, or none where they are held out with the test set:
        "normal" are those that the fold's model never sees, "train_normal" those that it may be trained with. "external"
        are all items with a lesion, for a model that was trained on another data set.
        """
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if fold not in range(self.num_folds):
            raise DataError(f"manifest {self.name}: fold {fold} does not exist, expected 0 to {self.num_folds - 1}")
        seen = split == "train_normal"
        chosen = {
            "train": [item for item in self.training if item["fold"] != fold],
            "val": [item for item in self.training if item["fold"] == fold],
            "test": self.testing,
            "external": [*self.training, *self.testing],
        }
        normals = [item for item in self.normal if (item.get("fold", fold) != fold) == seen]
        return images_of(chosen.get(split, normals))

    def organs(self, names: Sequence[str]) -> list[int]:
        """Numbers of the labels that `names` are in volumes; none of pictures, where names are of an image's class.

        A label of several words is named with `_` between them.

        Raises:
            DataError: the volumes have no such label, or the manifest is of one organ.
        """
        if not names or not any(map(is_volume, self.items())):
            return []
        if any("organ" in item for item in self.items()):
            raise DataError(
                f"{self.name}: its manifest is of one organ, and {', '.join(names)} are to be told apart; build one without "
                "--organ"
            )
        numbers = {
            name.replace(" ", "_"): int(number) for number, name in self.header["labels"].items() if number != "0"
        }
        if unknown := [name for name in names if name not in numbers]:
            raise DataError(f"{self.name}: label '{unknown[0]}': {did_you_mean(unknown[0], sorted(numbers))}")
        return [numbers[name] for name in names]

    @property
    def clip(self) -> tuple[float, float] | None:
        """The grey values of its volumes that become 0 and 1; None: each one's percentiles, or there are no volumes."""
        found = next((item["clip"] for item in self.items() if "clip" in item), None)
        return None if found is None else (float(found[0]), float(found[1]))

    def items(self) -> list[Item]:
        """All items that have files: training, testing and normal."""
        return [*self.training, *self.testing, *self.normal]


def load_manifest(path: str | Path) -> Manifest:
    """Read and validate a manifest file; every fault found is listed in one `DataError`."""
    path = Path(path)
    document, sha256 = read_document(path)
    raise_problems(f"manifest {path}", map(str, document_faults(document)))
    fields = ("name", "num_folds", "seed", *LISTS, "excluded")
    header = {key: value for key, value in document.items() if key not in fields}
    known = {key: document[key] for key in fields}
    return Manifest(**known, sha256=sha256, path=path, header=header)


def read_document(path: Path) -> tuple[Any, str]:
    """JSON content of a manifest file, not validated, and the SHA-256 of its bytes.

    Raises `DataError` when the file cannot be read or is no JSON.
    """
    try:
        content = bytes_of(path)
        return parse_json(content), hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise DataError(
            f"manifest {path}: cannot be read ({error.strerror}); build it with `manifests build`"
        ) from None
    except CodeError as error:
        raise CodeError(f"manifest {path}: {error}; correct it or build it again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"manifest {path}: not valid JSON in UTF-8 ({one_line(error)}); build it again") from None


def available(manifest: Manifest, root: Root) -> tuple[Manifest, dict[str, int]]:
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
                absent[place_of(key, item)] += 1
    return replace(manifest, **kept), dict(sorted(absent.items()))


def shipped_manifest(name: str, folder: Path | None = None) -> Path:
    """Path of `NAME.json` in `folder`, by default the checkout's or the package's, or in `data_manifests` where one is.

    Raises:
        DataError: there is none.
    """
    check_name(name)
    folders = (folder or shipped("data_manifests"), Path("data_manifests"))
    for place in folders:
        if (place / f"{name}.json").is_file():
            return place / f"{name}.json"
    known = {*DATASETS, *(path.stem for place in folders for path in place.glob("*.json"))}
    near = did_you_mean(name, sorted(known - {name}))
    raise DataError(
        f"no manifest data_manifests/{name}.json: build it with `ultrarefiner manifests build {name} --root ...`"
        f"{f' ({near})' if near.startswith('did you mean') else ''}"
    )
