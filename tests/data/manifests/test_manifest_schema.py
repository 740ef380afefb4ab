"""The published JSON Schema of manifests and the check that they go through when they are read say the same."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ultrarefiner_monai.data.datasets import DATASETS
from ultrarefiner_monai.data.manifests.items import LISTS
from ultrarefiner_monai.data.manifests.manifest import shipped_manifest
from ultrarefiner_monai.data.manifests.validate import (
    ITEM_TYPES,
    OPTIONAL_TYPES,
    TOP_TYPES,
    document_faults,
)

SCHEMA = Path(__file__).parents[3] / "docs/reference/manifest.schema.json"
# Values of every kind, most of them wrong for most keys.
VALUES = (
    *(None, True, -1, 0, 3, 2.5, "", "text", "a" * 64, "../x", "/x", "a/../b", "..", "a..b/c", "C:/x", "a\\b", "a\nb", ".hidden"),
    *([], ["a"], ["a", "b"], ["a", 3], ["../a"], [1, 2], [1, 2, 3], [0.1, 0.2], [True, 1], [0, 1], {}, {"a": 1}),
)  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    content = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def _item(name: str, **facts: Any) -> dict[str, Any]:
    item = {"id": name, "image": f"images/{name}.png", "label": f"masks/{name}.png", "class": "benign"}
    return {**item, "patient": name, "group": name, "width": 4, "height": 3, "sha256": "0" * 64, **facts}


def _document() -> dict[str, Any]:
    return {
        "schema": "ultrarefiner_monai/manifest/1",
        "name": "MYSET",
        "num_folds": 4,
        "seed": 42,
        "training": [_item("a", fold=0), _item("b", fold=1)],
        "testing": [_item("c")],
        "normal": [_item("d", fold=0)],
        "excluded": [{"id": "e", "reason": "no mask file"}],
    }


def _structural(document: Any) -> list[str]:
    """What is wrong with single values, which a schema can say; what they say of each other it cannot."""
    faults = document_faults(document)
    return [
        str(f) for f in faults if f.kind in ("structure", "unsafe_path") and " is not one of 0 to " not in f.message
    ]


@pytest.mark.parametrize("name", ["BUSI", "BUSBRA", "BUS_UCLM", "PHANTOM"])
def test_shipped_manifests_fit(name: str, schema: Draft202012Validator) -> None:
    schema.validate(json.loads(shipped_manifest(name).read_text(encoding="utf-8")))


def test_a_minimal_manifest_fits_both(schema: Draft202012Validator) -> None:
    assert document_faults(_document()) == []
    schema.validate(_document())


def _variants(holder: Callable[[dict[str, Any]], dict[str, Any]], keys: list[str]) -> list[dict[str, Any]]:
    """The document without each key, and with each value in each key's place."""
    found = []
    for key in keys:
        for value in VALUES:
            found.append(_document())
            holder(found[-1])[key] = deepcopy(value)
        found.append(_document())
        holder(found[-1]).pop(key, None)
    return found


@pytest.mark.parametrize("where", [*LISTS, "excluded", "top"])
def test_both_refuse_the_same(where: str, schema: Draft202012Validator) -> None:
    keys = {
        "top": ["schema", *TOP_TYPES, "warnings", "description", "licence"],
        "excluded": ["id", "reason", "files"],
    }.get(where, [*ITEM_TYPES, *OPTIONAL_TYPES])
    variants = _variants((lambda d: d) if where == "top" else lambda d: d[where][0], keys)
    for document in variants:
        if where in LISTS and isinstance(document[where][0].get("label_sha256"), list):
            continue  # their number must be that of the masks, which no schema can compare
        told = _structural(document)
        assert bool(told) != schema.is_valid(document), (document, told)


@pytest.mark.parametrize("document", [None, [], "text", 3, {}])
def test_both_refuse_what_is_no_object(document: Any, schema: Draft202012Validator) -> None:
    assert document_faults(document) and not schema.is_valid(document)


@pytest.mark.parametrize("name", [*DATASETS, "MYSET", "2024", "BUSI+MYSET", "a b", "../x", "", "x" * 65, "BUSI+"])
def test_both_know_names(name: str, schema: Draft202012Validator) -> None:
    document = {**_document(), "name": name}
    assert bool(_structural(document)) != schema.is_valid(document)
