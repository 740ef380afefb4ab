"""Each fault that a manifest has in itself is told once, with its kind, beside all others."""

import json
from pathlib import Path
from typing import Any

import pytest

from ultrarefiner_monai.data.faults import KINDS, Fault
from ultrarefiner_monai.data.manifests.manifest import shipped_manifest
from ultrarefiner_monai.data.manifests.validate import document_faults, listed_paths, top_faults, well_formed


def _item(name: str, **facts: Any) -> dict[str, Any]:
    item = {"id": name, "image": f"images/{name}.png", "label": f"masks/{name}.png", "class": "benign"}
    return {**item, "patient": name, "group": name, "width": 4, "height": 3, "sha256": "0" * 64, **facts}


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "schema": "ultrarefiner_monai/manifest/1",
        "name": "BUS",
        "num_folds": 2,
        "seed": 42,
        "training": [
            _item("a", fold=0),
            _item("b", fold=1),
            _item("c", fold=1, label=["masks/c.png", "masks/c_1.png"]),
        ],
        "testing": [_item("d")],
        "normal": [_item("e", group="a", fold=0), _item("f", group="d"), _item("g", fold=1)],
        "excluded": [{"id": "h", "reason": "no mask file"}],
    }


def _faults(document: dict[str, Any]) -> list[tuple[str, str]]:
    faults = document_faults(document)
    assert {fault.kind for fault in faults} <= set(KINDS)
    return [(fault.kind, str(fault)) for fault in faults]


def test_a_sound_manifest_has_no_fault(document: dict[str, Any]) -> None:
    assert document_faults(document) == []
    assert well_formed(document) == document


@pytest.mark.parametrize("name", ["BUSI", "BUSBRA", "BUS_UCLM", "PHANTOM"])
def test_shipped_manifests_have_no_fault(name: str) -> None:
    assert document_faults(json.loads(shipped_manifest(name).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "other"}, "expected schema 'ultrarefiner_monai/manifest/1', found 'other'; build it again"),
        ({"training": None}, "training: expected a list"),
        ({"num_folds": "5"}, "num_folds: expected a whole number from 1 to 1000"),
        ({"seed": True}, "seed: expected a whole number"),
        ({"name": 3}, "name: expected text"),
    ],
)
def test_a_manifest_that_is_none(change: dict[str, Any], told: str, document: dict[str, Any]) -> None:
    assert document_faults({**document, **change}) == [Fault("structure", "", "", told)]
    assert top_faults([1]) == [Fault("structure", "", "", "expected a JSON object, found list")]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("d", "expected an object, found str"),
        (_item("d", width="4"), "key 'width': expected a whole number above 0"),
        (_item("d", label=[]), "key 'label': expected at least one mask, found none"),
        (_item("d", label=[{}]), "key 'label': expected text or a list of texts"),
        (_item("d", image_size=[3]), "key 'image_size': expected two whole numbers above 0"),
        (_item("d", spacing=[0.1, 0]), "key 'spacing': expected two or three numbers above 0"),
        (_item("d", lesion_pixels=None), "key 'lesion_pixels': expected a whole number of at least 0"),
        (_item("d", label_sha256=["0", "1"]), "key 'label_sha256': expected one hash a mask"),
        (_item("d", fold="0"), "key 'fold': expected a whole number"),
    ],
)
def test_malformed_entries_are_told_and_left_out(entry: Any, told: str, document: dict[str, Any]) -> None:
    document["testing"].append(entry)
    assert _faults(document) == [("structure", f"testing[1]: {told}")]
    assert [item["id"] for item in well_formed(document)["testing"]] == ["d"]


def test_training_needs_a_fold_and_an_exclusion_a_reason(document: dict[str, Any]) -> None:
    document["training"].append(_item("p"))
    document["excluded"].append({"id": "q"})
    assert _faults(document) == [
        ("structure", "training[3]: key 'fold': expected a whole number"),
        ("structure", "excluded[1]: key 'reason': expected text"),
    ]


def test_unsafe_paths_of_images_and_masks(document: dict[str, Any]) -> None:
    bad = ["../x.png", "/etc/x.png", "C:/x.png", "a\\x.png", "a\0.png", "a/../../x.png", ""]
    document["testing"] += [_item(f"n{number}", image=path) for number, path in enumerate(bad)]
    document["testing"].append(_item("m", label=["masks/m.png", "/m.png"]))
    faults = document_faults(document)
    assert [fault.kind for fault in faults] == ["unsafe_path"] * 8
    assert [fault.id for fault in faults] == [*(f"n{number}" for number in range(7)), "m"]
    assert str(faults[0]) == "n0: path '../x.png' leaves the dataset root"
    assert str(faults[4]) == "n4: path 'a\\x00.png' holds a NUL or a backslash"
    assert str(faults[7]) == "m: path '/m.png' is absolute"


def test_an_item_listed_twice_is_one_fault(document: dict[str, Any]) -> None:
    document["testing"].append(_item("d"))
    assert _faults(document) == [("duplicate_id", "d: id occurs 2 times")]


def test_an_image_under_two_ids(document: dict[str, Any]) -> None:
    document["testing"].append(_item("z", image="images/a.png"))
    assert _faults(document) == [("duplicate_image", "images/a.png: image occurs 2 times")]


def test_groups_and_patients_in_two_places(document: dict[str, Any]) -> None:
    document["training"] += [_item("p", group="b", fold=0), _item("q", patient="d", fold=0)]
    document["normal"] += [_item("r", group="b", fold=0), _item("s", patient="c")]
    assert _faults(document) == [
        ("group", "group 'b' is in fold 0 and fold 1"),
        ("group", "patient 'c' is in fold 1 and testing"),
        ("group", "patient 'd' is in fold 0 and testing"),
    ]


def test_folds_out_of_range(document: dict[str, Any]) -> None:
    document["training"].append(_item("p", fold=2))
    document["normal"].append(_item("q", fold=-1))
    assert _faults(document) == [
        ("structure", "p: fold 2 is not one of 0 to 1"),
        ("structure", "q: fold -1 is not one of 0 to 1"),
    ]


def test_all_faults_stand_in_one_list(document: dict[str, Any], tmp_path: Path) -> None:
    document["testing"] += ["no item", _item("a"), _item("u", image="/u.png"), _item("v", group="b")]
    kinds = [kind for kind, _ in _faults(document)]
    assert kinds == ["structure", "unsafe_path", "duplicate_id", "group", "group", "group"]  # "a": group and patient


def test_listed_paths_include_those_of_malformed_entries(document: dict[str, Any]) -> None:
    document["testing"] = [{"image": "./images//x.png"}, {"label": ["masks/x.png", 3]}, "no item"]
    document["training"] = document["normal"] = []
    assert listed_paths(document) == {"images/x.png", "masks/x.png"}
