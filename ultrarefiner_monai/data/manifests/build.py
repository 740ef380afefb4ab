"""Writing a dataset manifest: records into training folds, test set, normals and exclusions.

Nothing but the records, the seed and the options decides the bytes: no clock, folder order, locale or platform.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.decoding import TURNED
from ultrarefiner_monai.data.manifests.groups import excluded_duplicates, group_records
from ultrarefiner_monai.data.manifests.items import SCHEMA
from ultrarefiner_monai.data.manifests.splits import TEST, Options, Places, split
from ultrarefiner_monai.data.manifests.validate import document_faults
from ultrarefiner_monai.data.releases.copies.pairs import CONTENT, NAMES, TABLE, CopyPair
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import MAX_DISTANCE
from ultrarefiner_monai.data.releases.copies.search import MIN_CORRELATION
from ultrarefiner_monai.data.releases.readers import info
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.data.releases.release import Release, shown_sizes
from ultrarefiner_monai.errors import DataError, raise_problems, shown
from ultrarefiner_monai.files import write_output
from ultrarefiner_monai.schemas import as_data

EIGHT_BIT_WHITE = 255
LESION_LABELS = {"0": "background", "1": "lesion"}
GROUPING = (
    "connected components of same patient and of near-duplicates (phash16 distance <= {distance} of 256 bits,"
    " mirror images included){further}, named after their first id; an item without a known patient has its group as patient"
)
EXAMPLES = 5  # ids that a note names
FURTHER = {  # reasons beside these, where a release has such pairs
    TABLE: ", of copies known of this release",
    NAMES: ", of files named like a changed copy of another",
    CONTENT: ", of copies found by content (correlation >= {correlation})",
}


def build_document(release: Release, options: Options, exclude_duplicates: bool = False) -> dict[str, Any]:
    """Content of the manifest of a release.

    Args:
        release: usable images and exclusions.
        options: how to split.
        exclude_duplicates: keep one image of each group of near-duplicates that the pixels confirm.

    Raises:
        DataError: options, ids or the published split do not allow a manifest.
    """
    name = release.name
    if not release.records:
        raise DataError(f"{name}: no usable images found{_why_none(release)}")
    dropped = excluded_duplicates(release.pairs) if exclude_duplicates else {}
    reasons = dict(release.excluded) | dropped
    kept = [record for record in release.records if record.source.id not in dropped]
    group = group_records(kept, [pair for pair in release.pairs if dropped.keys().isdisjoint(pair.ids)])
    published = info(name).official_test if len(parts_of(name)) == 1 else ()  # combined data sets have no such split
    place, warnings = split(name, kept, group, options, published)
    lists = _lists(kept, group, place)
    share = options.test_fraction
    if options.official:
        share = round(len(lists["testing"]) / (len(lists["testing"]) + len(lists["training"])), 4)
    document = {
        **_header(release, lists, warnings + _notes(release)),
        **lists,
        "excluded": [_excluded(key, reason, release) for key, reason in sorted(reasons.items())],
        "num_folds": 1 + max((item["fold"] for item in lists["training"]), default=-1),
        "seed": options.seed,
        "split": "official" if options.official else "stratified",
        "test_fraction": share,
    }
    raise_problems(f"manifest of {name}", map(str, document_faults(document)))
    return document


def write_manifest(document: Mapping[str, Any], path: Path) -> None:
    """Write a manifest atomically; `DataError` where that cannot be done, or where nobody would read it again."""
    write_output("manifest", path, encode(as_data(document, path.name)))


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


def _lists(kept: Iterable[Record], group: Mapping[str, str], place: Places) -> dict[str, list[dict[str, Any]]]:
    """The manifest's three lists of items. A normal item carries the fold of its group unless that is held out."""
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "testing": [], "normal": []}
    for record in kept:
        where = place[group[record.source.id]]
        item = _item(record, group[record.source.id])
        if where != TEST:
            item["fold"] = int(where)
        lists["normal" if not record.lesion_pixels else TEST if where == TEST else "training"].append(item)
    return lists


def _item(record: Record, group: str) -> dict[str, Any]:
    source, (width, height) = record.source, record.mask_sizes[0]
    item: dict[str, Any] = {
        "id": source.id,
        "image": source.image,
        "label": _one_or_list(source.masks),
        "class": source.label,
        "patient": source.patient or group,
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
    if record.depth is not None and record.spacing is not None:
        item |= {"depth": record.depth, "spacing": [round(side, 6) for side in record.spacing]}
    if record.organ is not None:
        item["organ"] = record.organ
    if record.clip is not None:
        item["clip"] = list(record.clip)
    if source.made_from:
        item["made_from"] = list(source.made_from)
    return item | ({"dataset": source.dataset} if source.dataset else {})


def _excluded(key: str, reason: str, release: Release) -> dict[str, Any]:
    """An entry of the list `excluded`; a user's own names its files, which no reader could tell later."""
    entry: dict[str, Any] = {"id": key, "reason": reason}
    files = release.files.get(key, ())
    return entry | ({"files": list(files)} if files else {})


def _why_none(release: Release) -> str:
    """The reason for which most images are excluded, numbers apart."""
    if not release.excluded:
        return "; name the folder of the unpacked release"
    kinds = Counter(re.sub(r"\d+", "0", reason) for reason in release.excluded.values())
    kind, count = kinds.most_common(1)[0]
    id, reason = next((key, text) for key, text in release.excluded.items() if re.sub(r"\d+", "0", text) == kind)
    lines = "; ".join(("", *release.notes)) if release.notes else ""
    return f", {count} of {len(release.excluded)} are excluded for the same reason: {id}: {reason}{lines}"


def _one_or_list(values: tuple[str, ...]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _header(release: Release, lists: Mapping[str, list[dict[str, Any]]], warnings: list[str]) -> dict[str, Any]:
    name, layouts = release.name, release.layouts
    about = {part: info(part) for part in parts_of(name)}
    described = [
        f"{one.description} ({layouts[part]})" if part in layouts else one.description for part, one in about.items()
    ]
    reasons = {pair.found_by for pair in release.pairs if isinstance(pair, CopyPair)}
    further = "".join(text for reason, text in FURTHER.items() if reason in reasons)
    return {
        "schema": SCHEMA,
        "name": name,
        "description": "; ".join(described),
        "reference": "; ".join(part.reference for part in about.values()),
        "licence": "; ".join(part.licence for part in about.values()),
        "labels": dict(release.labels or LESION_LABELS),
        "modality": {"0": "; ".join(dict.fromkeys(part.modality for part in about.values()))},
        "grouping": GROUPING.format(distance=MAX_DISTANCE, further=further.format(correlation=MIN_CORRELATION)),
        "numTraining": len(lists["training"]),
        "numTest": len(lists["testing"]),
        "numNormal": len(lists["normal"]),
        "classes": {key: dict(Counter(item["class"] for item in items)) for key, items in lists.items()},
        "warnings": warnings,
    }


def _notes(release: Release) -> list[str]:
    """What users should know: of the release, of copies, and of images that are stretched, turned or of many bits."""
    both = [(pair.first.source, pair.second.source) for pair in release.pairs if pair.opposite]
    notes = [*release.notes]
    notes += [f"near-duplicates with opposite labels: {a.id} ({a.label}) and {b.id} ({b.label})" for a, b in both]
    named = [pair for pair in release.pairs if isinstance(pair, CopyPair) and pair.found_by == NAMES]
    if named:
        examples = shown((f"{pair.ids[1]} of {pair.ids[0]}" for pair in named), EXAMPLES)
        notes.append(f"{len(named)} files are named like changed copies of others and stay with them: {examples}")
    notes += [
        f"{r.source.id}: image {shown_sizes(r.size)} is stretched onto its mask's grid {shown_sizes(r.mask_sizes[0])}"
        for r in release.records
        if r.size != r.mask_sizes[0]
    ]
    if turned := [r.source.id for r in release.records if r.orientation != 1]:
        notes.append(f"{TURNED}, {len(turned)} images: {shown(turned, EXAMPLES)}")
    deep = Counter(r.white for r in release.records if r.white != EIGHT_BIT_WHITE)
    return notes + [f"white is the stored value {white} in {count} images" for white, count in sorted(deep.items())]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
