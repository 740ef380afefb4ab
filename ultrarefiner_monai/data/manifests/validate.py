"""Faults a manifest has in itself, before any file is opened, and the same as far as JSON Schema can say it.

docs/reference/manifest.schema.json has it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from ultrarefiner_monai.data.datasets import OWN_NAME, check_name
from ultrarefiner_monai.data.faults import Fault
from ultrarefiner_monai.data.manifests.items import LISTS, SCHEMA, Item, item_files, masks_of, side_of
from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.schemas import (
    PATH,
    PIXELS,
    SHA256,
    TEXT,
    TEXTS,
    WHOLE,
    Schema,
    fits,
    list_of,
    object_of,
    of,
)

_ABOVE_0 = {"type": "number", "exclusiveMinimum": 0, "maximum": WHOLE}
TOP_TYPES = {"name": "text", "num_folds": "a whole number from 1 to 1000", "seed": "a whole number"} | dict.fromkeys(
    (*LISTS, "excluded"), "a list"
)
OPTIONAL_TOP_TYPES = {"warnings": "a list of texts"} | dict.fromkeys(("description", "reference", "licence"), "text")
EXCLUDED_TYPES = {"id": "text", "reason": "text"}
OPTIONAL_EXCLUDED_TYPES = {"files": "a list of texts"}
ITEM_TYPES = {
    "id": "text",
    "image": "text",
    "label": "text or a list of texts",
    "class": "text",
    "patient": "text",
    "group": "text",
    "width": "a whole number above 0",
    "height": "a whole number above 0",
    "sha256": "text",
}
OPTIONAL_TYPES = {
    "fold": "a whole number",
    "label_sha256": "text or a list of texts",
    "dataset": "text",
    "lesion_pixels": "a whole number of at least 0",
    "image_size": "two whole numbers above 0",
    "spacing": "two or three numbers above 0",
    "depth": "a whole number above 0",
    "organ": "a whole number above 0",
    "clip": "two numbers",
    "made_from": "a list of texts",
    "phash16": "64 hexadecimal digits",
}
KINDS: dict[str, Schema] = {  # by the words of the messages
    kind["description"]: kind
    for kind in (
        TEXT,
        TEXTS,
        PIXELS,
        of("a whole number", type="integer", minimum=-WHOLE, maximum=WHOLE),
        of("a whole number of at least 0", type="integer", minimum=0, maximum=WHOLE),
        of("a whole number from 1 to 1000", type="integer", minimum=1, maximum=1000),
        of("a list", type="array"),
        of("text or a list of texts", anyOf=[TEXT, TEXTS]),
        of("two or three numbers above 0", type="array", items=_ABOVE_0, minItems=2, maxItems=3),
        of(
            "two numbers",
            type="array",
            items={"type": "number", "minimum": -WHOLE, "maximum": WHOLE},
            minItems=2,
            maxItems=2,
        ),
        of("two whole numbers above 0", type="array", items=PIXELS, minItems=2, maxItems=2),
        SHA256,
    )
}


def document_faults(document: Any) -> list[Fault]:
    """Every fault of a manifest's JSON content: keys and types, ids and images twice, unsafe paths, folds, groups.

    Entries of the wrong structure are told as such and take no further part.
    """
    if faults := top_faults(document):
        return faults
    entries = [
        Fault("structure", "", "", f"{key}[{position}]: {problem}")
        for key in (*LISTS, "excluded")
        for position, entry in enumerate(document[key])
        for problem in _entry_problems(key, entry)
    ]
    sound = well_formed(document)
    paths = [
        Fault("unsafe_path", item["id"], "", problem)
        for item in _items(sound)
        for path in item_files(item)
        if (problem := unsafe(path))
    ]
    return [*entries, *paths, *_repetitions(sound), *_fold_faults(sound), *_straddling(sound)]


def top_faults(document: Any) -> list[Fault]:
    """What makes a manifest's content unreadable as a whole: another schema, lists or counts missing or mistyped."""
    if not isinstance(document, dict):
        problems = [f"expected a JSON object, found {type(document).__name__}"]
    elif document.get("schema") != SCHEMA:
        problems = [f"expected schema {SCHEMA!r}, found {document.get('schema')!r}; build it again"]
    else:
        types = TOP_TYPES | {key: kind for key, kind in OPTIONAL_TOP_TYPES.items() if key in document}
        problems = [
            f"{key}: expected {kind}" for key, kind in types.items() if not fits(document.get(key), KINDS[kind])
        ]
        problems += _name_problems(document["name"]) if not problems else []
    return [Fault("structure", "", "", problem) for problem in problems]


def _name_problems(name: str) -> list[str]:
    try:
        check_name(name)
    except DataError as error:
        return [f"name: {error}"]
    return []


def well_formed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's content, which has no `top_faults`, without the entries that lack keys or have wrong types."""
    lists = {key: [e for e in document[key] if not _entry_problems(key, e)] for key in (*LISTS, "excluded")}
    return {**document, **lists}


def listed_paths(document: Mapping[str, Any]) -> set[str]:
    """Paths that the entries of a manifest name, in one spelling; also those of entries that are not well formed.

    Those that masks were made from, and those of excluded images as far as these name them, are among them.
    """
    entries = [entry for key in (*LISTS, "excluded") for entry in document[key] if isinstance(entry, dict)]
    values = (entry.get(key) for entry in entries for key in ("image", "label", "made_from", "files"))
    named = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    return {str(PurePosixPath(path)) for path in named if isinstance(path, str)}


def _entry_problems(key: str, entry: Any) -> list[str]:
    """What is wrong with the keys of an entry of the list `key`."""
    if not isinstance(entry, dict):
        return [f"expected an object, found {type(entry).__name__}"]
    if key == "excluded":
        return _mistyped(entry, EXCLUDED_TYPES | {k: v for k, v in OPTIONAL_EXCLUDED_TYPES.items() if k in entry})
    optional = {
        name: kind for name, kind in OPTIONAL_TYPES.items() if name in entry or (name, key) == ("fold", LISTS[0])
    }
    problems = _mistyped(entry, ITEM_TYPES | optional)
    if entry.get("label") == []:
        problems.append("key 'label': expected at least one mask, found none")
    hashes = entry.get("label_sha256", entry.get("label"))
    if not problems and (len(hashes) if isinstance(hashes, list) else 1) != len(masks_of(entry)):
        problems.append("key 'label_sha256': expected one hash a mask")
    return problems


def _mistyped(entry: Mapping[str, Any], types: Mapping[str, str]) -> list[str]:
    return [f"key {key!r}: expected {kind}" for key, kind in types.items() if not fits(entry.get(key), KINDS[kind])]


def _items(document: Mapping[str, Any]) -> list[Item]:
    return [item for key in LISTS for item in document[key]]


def _repetitions(document: Mapping[str, Any]) -> list[Fault]:
    """Ids that occur more than once, and images that occur under more than one id."""
    items = _items(document)
    images = {(item["image"], item["id"]) for item in items}
    return [
        *(Fault("duplicate_id", n, "", f"id occurs {c} times") for n, c in _repeated(item["id"] for item in items)),
        *(
            Fault("duplicate_image", "", path, f"image occurs {count} times")
            for path, count in _repeated(image for image, _ in sorted(images))
        ),
    ]


def _repeated(values: Iterable[str]) -> list[tuple[str, int]]:
    return sorted((value, count) for value, count in Counter(values).items() if count > 1)


def _fold_faults(document: Mapping[str, Any]) -> list[Fault]:
    folds = range(document["num_folds"])
    return [
        Fault("structure", item["id"], "", f"fold {item['fold']} is not one of 0 to {len(folds) - 1}")
        for item in _items(document)
        if "fold" in item and item["fold"] not in folds
    ]


def _straddling(document: Mapping[str, Any]) -> list[Fault]:
    """Groups and patients whose images lie in more than one fold, or both in training and testing.

    A normal image belongs where its fold says, or with the test set when it has none.
    """
    faults = []
    for unit in ("group", "patient"):
        places: dict[str, set[str]] = {}
        for item in _items(document):
            places.setdefault(item[unit], set()).add(side_of(item))
        faults += [
            Fault("group", "", "", f"{unit} {name!r} is in {' and '.join(sorted(found))}")
            for name, found in sorted(places.items())
            if len(found) > 1
        ]
    return faults


def json_schema() -> dict[str, Any]:
    """The structure of a manifest as JSON Schema (2020-12); what entries say of each other it cannot tell."""

    def described(types: Mapping[str, str], optional: Mapping[str, str], **known: Any) -> dict[str, Any]:
        properties = {key: KINDS[kind] for key, kind in {**types, **optional}.items()}
        return object_of(properties, known) | {"required": list(types)}

    label = of("a path or a list of paths", anyOf=[PATH, {"type": "array", "items": PATH, "minItems": 1}])
    hashes = of("text or a list of texts", anyOf=[TEXT, {**TEXTS, "minItems": 1}])
    item = described(ITEM_TYPES, OPTIONAL_TYPES, image=PATH, label=label, label_sha256=hashes)
    entries = {key: list_of({"$ref": "#/$defs/item"}) for key in LISTS}
    entries[LISTS[0]] = list_of({"allOf": [{"$ref": "#/$defs/item"}, {"required": ["fold"]}]})
    excluded = list_of(described(EXCLUDED_TYPES, OPTIONAL_EXCLUDED_TYPES))
    name = of("the name of a data set", type="string", pattern=rf"^{OWN_NAME}(\+{OWN_NAME})*$")
    schema = of(f"'{SCHEMA}'", const=SCHEMA)
    top = described(TOP_TYPES, OPTIONAL_TOP_TYPES, **entries, excluded=excluded, name=name, schema=schema)
    top["required"].insert(0, "schema")
    return {**top, "$defs": {"item": item}}
