"""Every kind of difference planted by hand, and the images that would leak from one manifest's test into the other's training."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifests.diff import SHOWN, Leak, diff, document, table
from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest


def item(name: str, **facts) -> dict:
    files = {"id": name, "image": f"i/{name}.png", "label": f"m/{name}.png", "sha256": f"bytes of {name}"}
    known = {"class": "benign", "patient": f"p{name}", "group": name, "label_sha256": f"mask of {name}"}
    return {**files, **known, "width": 10, "height": 20, "lesion_pixels": 5, **facts}


@pytest.fixture
def content() -> dict:
    return {
        "schema": "ultrarefiner_monai/manifest/1",
        "name": "BUS",
        "num_folds": 2,
        "seed": 42,
        "warnings": ["look at a"],
        "training": [item("a", fold=0), item("b", fold=1), item("c", fold=1)],
        "testing": [item("d"), item("e")],
        "normal": [item("n", fold=0), item("o")],
        "excluded": [{"id": "x", "reason": "no mask file"}],
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Manifest]:
    def write(document: dict, name: str = "a", **options) -> Manifest:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document, **options))
        return load_manifest(path)

    return write


@pytest.fixture
def compare(content: dict, load: Callable[..., Manifest]) -> Callable[[dict], object]:
    return lambda other: diff(load(content, "a"), load(other, "b"))


def test_equal(content: dict, compare: Callable) -> None:
    same = compare(content)
    assert same.equal
    assert table(same) == "equal"
    assert document(same)["equal"] is True


def test_equal_in_other_bytes_says_so(content: dict, load: Callable[..., Manifest]) -> None:
    a, b = load(content, "a"), load(content, "b", indent=1)
    said = table(diff(a, b)).splitlines()
    assert said[0].startswith("equal in content")
    assert a.sha256 in said[1] and b.sha256 in said[2] and a.sha256 != b.sha256


def test_header(content: dict, compare: Callable) -> None:
    other = {**content, "seed": 7, "num_folds": 3, "licence": "free", "warnings": ["look at b"]}
    found = compare(other)
    assert not found.equal
    assert found.header == {
        "licence": (None, "free"),
        "num_folds": (2, 3),
        "seed": (42, 7),
        "warnings": (["look at a"], ["look at b"]),
    }
    said = table(found).splitlines()
    assert "header seed: 42 -> 7" in said
    assert "header warnings: -look at a, +look at b" in said


def test_added_and_removed(content: dict, compare: Callable) -> None:
    other = deepcopy(content)
    other["training"][0] = item("new", fold=0)
    other["excluded"] = [{"id": "y", "reason": "no mask file"}]
    found = compare(other)
    assert (found.added, found.removed) == (("new", "y"), ("a", "x"))
    assert not found.moved and not found.changed
    assert table(found).splitlines()[3:5] == ["added in B      2  new, y", "removed from A  2  a, x"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "other bytes"),
        ("label_sha256", "another mask"),
        ("label", "m/other.png"),
        ("class", "malignant"),
        ("patient", "someone else"),
        ("group", "another"),
        ("lesion_pixels", 6),
        ("image_size", [9, 9]),
    ],
)
def test_changed_item(content: dict, compare: Callable, key: str, value: object) -> None:
    other = deepcopy(content)
    before = other["training"][0].get(key)
    other["training"][0][key] = value
    found = compare(other)
    assert found.changed == {"a": {key: (before, value)}}
    assert not (found.equal or found.header or found.added or found.removed or found.moved)
    assert f"changed {key}  1  a (" in table(found)


def test_moved_between_all_kinds_of_places(content: dict, compare: Callable) -> None:
    """Leaving the excluded ones is a move, not a change of everything that is known of the item."""
    other = deepcopy(content)
    other["training"] = [item("a", fold=1), item("b", fold=0), item("d", fold=0), item("x", fold=1)]
    other["testing"] = [item("c")]
    other["normal"] = [item("n"), item("o", fold=1)]
    other["excluded"] = [{"id": "e", "reason": "blank"}]
    found = compare(other)
    assert found.moved == {
        "a": ("fold 0", "fold 1"),
        "b": ("fold 1", "fold 0"),
        "c": ("fold 1", "test"),
        "d": ("test", "fold 0"),
        "e": ("test", "excluded"),
        "n": ("normal fold 0", "normal test"),
        "o": ("normal test", "normal fold 1"),
        "x": ("excluded", "fold 1"),
    }
    assert found.changed == {}
    assert "moved test -> fold 0                1  d" in table(found)


def test_leaks_both_ways(content: dict, compare: Callable) -> None:
    """A holds out d, e and the normal o; B trains on d, on e's bytes under another id, and on another image of o's patient."""
    other = deepcopy(content)
    stolen = item("copy", sha256="bytes of e", fold=0)
    sibling = item("sibling", patient="po", fold=0)
    other["training"] = [item("b", fold=1), item("d", fold=0), stolen, sibling]
    other["testing"] = [item("a"), item("f")]
    other["normal"] = []
    a_in_b, b_in_a = compare(other).leaks
    assert a_in_b == Leak("A", "B", 3, images=("d", "e"), patients=("o",))
    assert b_in_a == Leak("B", "A", 2, images=("a",), patients=())
    said = table(compare(other)).splitlines()
    assert said[-2:] == [
        "A's test set and held-out normals in B's training: 2 of 3 images (d, e), of patients there 1 more (o)",
        "B's test set and held-out normals in A's training: 1 of 2 images (a)",
    ]


def test_no_leak_is_said_too(content: dict, compare: Callable) -> None:
    said = table(compare({**content, "seed": 7}))
    assert said.endswith("in A's training: 0 of 3 images")
    assert "in B's training: 0 of 3 images" in said


def test_equal_patient_codes_of_different_data_sets_are_different_people(content: dict, load: Callable) -> None:
    other = {**content, "name": "BUS_UC", "testing": [], "normal": []}
    other["training"] = [item("z", patient="pd", fold=0), item("y", fold=1)]
    found = diff(load(content, "a"), load(other, "b"))
    assert found.leaks[0].images == found.leaks[0].patients == ()


def test_a_single_data_set_is_compared_with_its_part_of_a_combined_one(content: dict, load: Callable) -> None:
    """Its ids, paths, patients and groups get the name in front, as the combined manifest writes them."""
    other = deepcopy(content)
    for key in ("training", "testing", "normal"):
        for entry in other[key]:
            entry |= {name: f"BUS/{entry[name]}" for name in ("id", "image", "label", "patient", "group")}
            entry["dataset"] = "BUS"
    other["excluded"] = [{"id": "BUS/x", "reason": "no mask file"}]
    other["name"] = "BUS+BUS_UC"
    other["training"].append(item("BUS_UC/1", dataset="BUS_UC", fold=0))
    other["training"].append(other["testing"].pop(0) | {"fold": 0})
    for found in (diff(load(content, "a"), load(other, "b")), diff(load(other, "b"), load(content, "a"))):
        assert (found.added or found.removed) == ("BUS_UC/1",)
        assert list(found.moved) == ["BUS/d"]
        assert found.changed == {}
        assert {leak.images for leak in found.leaks} == {("BUS/d",), ()}


def test_long_lists_and_values_are_cut_in_the_table_and_whole_in_the_document(content: dict, compare: Callable) -> None:
    other = deepcopy(content)
    new = [f"new{i}" for i in range(SHOWN + 2)]
    other["training"] += [item(name, fold=0) for name in new]
    other["description"] = "x" * 100
    found = compare(other)
    assert f"new{SHOWN - 1} and 2 more" in table(found)
    assert max(map(len, table(found).splitlines())) < 200
    told = json.loads(json.dumps(document(found)))
    assert told["added"] == new
    assert told["header"]["description"] == [None, "x" * 100]
    assert told["leaks"][0] == {"tested": "A", "trained": "B", "held_out": 3, "images": [], "patients": []}
