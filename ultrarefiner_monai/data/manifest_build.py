"""Writing a dataset manifest: records into training folds, test set, normals and exclusions.

Nothing but the records, the seed and the options decides the bytes: no clock, folder order, locale or platform.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from . import folds as fold_assignment
from .errors import DataError, raise_problems
from .files import write_atomically
from .groups import group_records, opposite_labels, patient_of
from .inventory import read_inventory
from .manifest import SCHEMA, item_problems
from .near_duplicates import MAX_DISTANCE
from .readers import Info, find_root, info, reader
from .records import Record, measure

TEST = "testing"
LESION_CLASSES = ("benign", "malignant")
GROUPING = (
    "connected components of same patient and of near-duplicates (phash16 distance <= {distance} of 256 bits,"
    " mirror images included), named after their first id; an item without a known patient has its group as patient"
)


def release_records(name: str, root: str | Path | None = None, inventory: str | Path | None = None) -> list[Record]:
    """Facts of the release of dataset `name`: from the table `inventory` if given, else from the files under `root`.

    `root` is the release folder or its parent. Raises `DataError` when it is neither, or a file is unreadable.
    """
    if inventory is not None:
        return read_inventory(name, inventory)
    if root is None:
        raise DataError(f"{name}: nothing to build from; give --root RELEASE_FOLDER or --inventory CSV")
    folder = find_root(name, root)
    return measure(reader(name).scan(folder), folder)


def build_document(
    name: str, records: Sequence[Record], folds: int | str = 5, seed: int = 42, test_fraction: float = 0.2
) -> dict[str, Any]:
    """Content of the manifest of `records`: `folds` by number, or "official" for the authors' published split.

    Raises `DataError` when options, ids or the published split do not allow a manifest.
    """
    about = info(name)
    records = sorted(records, key=lambda record: record.source.id)
    _check_ids(name, records)
    reasons = {record.source.id: reason for record in records if (reason := exclusion(record, about))}
    kept = [record for record in records if record.source.id not in reasons]
    group = dict(zip((record.source.id for record in kept), group_records(kept, about.same_patient), strict=True))
    lesions = [record for record in kept if record.lesion_pixels]
    place, warnings = _places(name, about, lesions, group, folds, seed, test_fraction)
    lists = _lists(kept, group, place, about)
    document = {
        **_header(name, about, lists, warnings + _notes(kept)),
        **lists,
        "excluded": [{"id": key, "reason": reason} for key, reason in reasons.items()],
        "num_folds": 1 + max((item["fold"] for item in lists["training"]), default=-1),
        "seed": seed,
        "split": "official" if folds == "official" else "stratified",
        "test_fraction": round(len(lists["testing"]) / len(lesions), 4) if folds == "official" else test_fraction,
    }
    raise_problems(f"manifest of {name}", item_problems(document))
    return document


def write_manifest(document: Mapping[str, Any], path: Path) -> None:
    """Write a manifest atomically."""
    try:
        write_atomically(path, encode(document))
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"manifest {path}: cannot be written ({reason}); free space or name another folder") from None


def encode(document: Mapping[str, Any]) -> bytes:
    """JSON bytes of a manifest: lists one entry a line, so that a change of one item is a change of one line."""
    lines = []
    for key in sorted(document):
        value = document[key]
        if isinstance(value, list) and value:
            value = "[\n  " + ",\n  ".join(_json(entry) for entry in value) + "\n ]"
        else:
            value = _json(value)
        lines.append(f" {_json(key)}: {value}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def exclusion(record: Record, about: Info) -> str | None:
    """Why an image can be used for nothing, or None."""
    if not record.source.masks:
        return "no mask file"
    if len(set(record.mask_sizes)) > 1:
        return f"masks of different sizes: {_sizes(record.mask_sizes)}"
    if record.size != record.mask_sizes[0] and not about.stretched:
        return f"image is {_sizes([record.size])}, mask is {_sizes(record.mask_sizes[:1])}"
    if record.source.label in LESION_CLASSES and not record.lesion_pixels:
        return f"blank mask although the class is {record.source.label}"
    if record.source.label == "normal" and record.lesion_pixels:
        return f"{record.lesion_pixels} lesion pixels although the class is normal"
    return None


def _check_ids(name: str, records: Sequence[Record]) -> None:
    if not records:
        raise DataError(f"{name}: no images found; name the folder of the unpacked release")
    counts = Counter(record.source.id for record in records)
    raise_problems(name, (f"id {key!r} occurs {count} times" for key, count in counts.items() if count > 1))


def _places(
    name: str,
    about: Info,
    lesions: Sequence[Record],
    group: Mapping[str, str],
    folds: int | str,
    seed: int,
    test_fraction: float,
) -> tuple[dict[str, str], list[str]]:
    """Place ("testing" or a fold's number as text) of each lesion group, and what is to be reported about it."""
    if folds != "official":
        _check_options(name, folds, test_fraction)
        return _assign(lesions, group, int(folds), Fraction(str(test_fraction)), seed), []
    published = _published(about, lesions)
    if not published:
        raise DataError(f"{name}: the authors published no split; give --folds a number")
    place, warnings = {}, []
    for key, wanted in sorted(_by_group(published, group).items()):
        place[key] = TEST if TEST in wanted else min(wanted)
        if len(wanted) > 1:
            warnings.append(
                f"group {key} straddles the published split ({', '.join(sorted(wanted))}): kept in {place[key]}"
            )
    if set(place.values()) <= {TEST, ""}:
        rest = [record for record in lesions if place[group[record.source.id]] != TEST]
        place.update(_assign(rest, group, 5, Fraction(0), seed))
    return place, warnings


def _published(about: Info, lesions: Sequence[Record]) -> dict[str, str]:
    """The authors' place of each id ("" where they only name the test set); empty when they published nothing."""
    if about.official_test:
        return {r.source.id: TEST if r.source.patient in about.official_test else "" for r in lesions}
    if not all(record.source.official for record in lesions):
        return {}
    return {r.source.id: TEST if r.source.official == "test" else str(int(r.source.official) - 1) for r in lesions}


def _by_group(published: Mapping[str, str], group: Mapping[str, str]) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {}
    for name, place in published.items():
        wanted.setdefault(group[name], set()).add(place)
    return wanted


def _check_options(name: str, folds: int | str, test_fraction: float) -> None:
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 2:
        raise DataError(f"{name}: --folds {folds!r}: expected a whole number from 2, or 'official'")
    if not isinstance(test_fraction, int | float) or not 0 <= test_fraction < 1:
        raise DataError(f"{name}: --test_fraction {test_fraction!r}: expected a number from 0 to below 1")


def _assign(
    lesions: Sequence[Record], group: Mapping[str, str], folds: int, test: Fraction, seed: int
) -> dict[str, str]:
    """Stratified place of each group, the test share first."""
    strata: dict[str, Counter[str]] = {}
    for label in sorted({record.source.label for record in lesions}):
        of_class = {r.source.id: _area(r) for r in lesions if r.source.label == label}
        for name, size_bin in fold_assignment.size_bins(of_class).items():
            strata.setdefault(group[name], Counter()).update(fold_assignment.strata_of(label, size_bin))
    shares = {TEST: test} if test else {}
    shares.update({str(fold): (1 - test) / folds for fold in range(folds)})
    return fold_assignment.assign(strata, shares, seed)


def _area(record: Record) -> float:
    """Lesion's share of the mask's pixels."""
    width, height = record.mask_sizes[0]
    return record.lesion_pixels / (width * height)


def _lists(
    kept: Sequence[Record], group: Mapping[str, str], place: Mapping[str, str], about: Info
) -> dict[str, list[dict[str, Any]]]:
    """The manifest's three lists of items. A normal item carries the fold of its group, if that is in training."""
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "testing": [], "normal": []}
    for record in kept:
        where = place.get(group[record.source.id], "")
        item = _item(record, group[record.source.id], about)
        if where not in ("", TEST):
            item["fold"] = int(where)
        target = "normal" if not record.lesion_pixels else "testing" if where == TEST else "training"
        lists[target].append(item)
    return lists


def _item(record: Record, group: str, about: Info) -> dict[str, Any]:
    source, (width, height) = record.source, record.mask_sizes[0]
    item: dict[str, Any] = {
        "id": source.id,
        "image": source.image,
        "label": _one_or_list(source.masks),
        "class": source.label,
        "patient": patient_of(record, about.same_patient) or group,
        "group": group,
        "width": width,
        "height": height,
        "sha256": record.sha256,
        "label_sha256": _one_or_list(record.mask_sha256),
        "lesion_pixels": record.lesion_pixels,
        "phash16": record.phash16,
    }
    if record.size != (width, height):
        item["image_size"] = list(record.size)
    return item


def _one_or_list(values: tuple[str, ...]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _header(name: str, about: Info, lists: Mapping[str, list[dict[str, Any]]], warnings: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": name,
        "description": about.description,
        "reference": about.reference,
        "licence": about.licence,
        "labels": {"0": "background", "1": "lesion"},
        "modality": {"0": "ultrasound"},
        "grouping": GROUPING.format(distance=MAX_DISTANCE),
        "numTraining": len(lists["training"]),
        "numTest": len(lists["testing"]),
        "numNormal": len(lists["normal"]),
        "classes": {key: dict(Counter(item["class"] for item in items)) for key, items in lists.items()},
        "warnings": warnings,
    }


def _notes(kept: Sequence[Record]) -> list[str]:
    """What users should know about single images: opposite labels on one picture, images stretched onto their masks."""
    notes = [
        f"near-duplicates with opposite labels: {a.source.id} ({a.source.label}) and {b.source.id} ({b.source.label})"
        for a, b in opposite_labels(kept)
    ]
    return notes + [
        f"{r.source.id}: image {_sizes([r.size])} is stretched onto its mask's grid {_sizes(r.mask_sizes[:1])}"
        for r in kept
        if r.size != r.mask_sizes[0]
    ]


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{width}x{height}" for width, height in sizes)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
