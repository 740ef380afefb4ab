"""COCO's JSON: which picture is meant, and the masks that annotations draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_own import SIZE, listed, names, speckle, write

from ultrarefiner_monai.data.releases.own.rle import decoded, draw
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError


def test_a_square_polygon_covers_the_pixels_between_its_corners() -> None:
    mask = draw([[1, 1, 3, 1, 3, 3, 1, 3]], (5, 4))
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert draw([[1, 1, 3, 1, 3, 3, 1, 3], [3, 0, 5, 0, 5, 1, 3, 1]], (5, 4)).sum() == 4 + 2
    assert draw([-100, -100, 100, -100, 100, 100, -100, 100], (5, 4)).all()


def test_run_lengths_go_down_the_columns() -> None:
    """Of 3 x 2 (height, width): one background, two lesion, three background."""
    expected = [[False, False], [True, False], [True, False]]
    assert draw({"size": [3, 2], "counts": [1, 2, 3]}, (2, 3)).tolist() == expected
    assert draw({"size": [3, 2], "counts": "123"}, (2, 3)).tolist() == expected


def test_compressed_run_lengths() -> None:
    """By hand: 40 = 1 * 32 + 8 -> "X1"; from the third number on they are differences, -1 is "O"."""
    assert decoded("X1") == [40]
    assert decoded("123") == [1, 2, 3]
    assert decoded("5556") == [5, 5, 5, 11]
    assert decoded("55O") == [5, 5, -1]
    assert decoded("559O") == [5, 5, 9, 4]


@pytest.mark.parametrize(
    "runs", [[0, 1], [5, 1000, 3, 70000, 2], [1] * 50, [12, 0, 31, 32, 33, 1024, 1023, 65536]], ids=str
)
def test_compression_there_and_back(runs: list[int]) -> None:
    assert decoded(_compressed(runs)) == runs


def _compressed(runs: list[int]) -> str:
    text = ""
    for number, run in enumerate(runs):
        value = run - (runs[number - 2] if number > 2 else 0)
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ({"size": [2, 3], "counts": [6]}, r"size \[2, 3\], the image has \[3, 2\]"),
        ({"size": [3, 2], "counts": [5]}, "do not sum to 6 pixels"),
        ({"size": [3, 2], "counts": [7, -1]}, "do not sum to 6 pixels"),
        ({"size": [3, 2], "counts": [10**30, 6 - 10**30]}, "do not sum to 6 pixels"),
        ({"size": [3, 2], "counts": [6.0]}, "do not sum to 6 pixels"),
        ({"size": [3, 2], "counts": "é"}, "characters that COCO's compression does not"),
        ({"size": [3, 2], "counts": "o" * 50}, "characters that COCO's compression does not"),
        ({"size": [3, 2], "counts": "o"}, "in the middle of a number"),
        ({}, "size None"),
        ([[1, 1, 2, 2]], "expected polygons"),
        ([[1, 1, 2, 2, 3]], "expected polygons"),
        ([[1, 1, 2, 2, float("nan"), 3]], "expected polygons"),
        ([[1, 1, 2, 2, 10**400, 3]], "expected polygons"),
        ([[1, 1, 2, 2, True, 3]], "expected polygons"),
        ([["1", 1, 2, 2, 3, 3]], "expected polygons"),
        ([[1, 2, 3] * 20000], "expected polygons"),
        ([], "expected polygons or run lengths, found list of 0"),
        (None, "expected polygons or run lengths, found None"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_annotations_that_are_none(segmentation: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        draw(segmentation, (2, 3))


def coco(root: Path, images: list[str], annotations: list[dict], path: str = "annotations.json", **more: Any) -> Path:
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(images)],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        "categories": [{"id": 1, "name": "lesion"}, {"id": 2, "name": "Benign"}, {"id": 3, "name": "malignant"}],
    }
    return write(root, {path: json.dumps({**content, **more})})


SQUARE = [[10, 5, 18, 5, 18, 13, 10, 13]]


def test_annotations_of_an_image_are_united_and_tell_its_class(tmp_path: Path) -> None:
    write(tmp_path, {f"pictures/{name}.png": speckle(name) for name in "abcd"})
    far = {"size": [30, 40], "counts": [0, 1, 30 * 40 - 1]}
    annotations = [
        {"image_id": 0, "category_id": 2, "segmentation": SQUARE},
        {"image_id": 0, "category_id": 2, "segmentation": far, "iscrowd": 1},
        {"image_id": 1, "category_id": 2, "segmentation": SQUARE},
        {"image_id": 1, "category_id": 3, "segmentation": far},
        {"image_id": 2, "category_id": 3, "segmentation": SQUARE},
    ]
    coco(tmp_path, ["a.png", "pictures/b.png", "c.png", "d.png"], annotations)
    listing = listed(tmp_path)
    assert {source.id: source.label for source in listing.sources} == {
        "a": "benign",
        "b": "unknown",
        "c": "malignant",
        "d": "normal",
    }
    assert {id: int(drawing(SIZE).sum()) for id, drawing in listing.drawings.items()} == {
        "a": 65,
        "b": 65,
        "c": 64,
        "d": 0,
    }
    assert listing.drawings["a"](SIZE)[5:13, 10:18].all()
    assert "1 of 4 images have no annotation, or are called normal: no lesion" in listing.notes


def test_splits_of_several_files(tmp_path: Path) -> None:
    names(tmp_path, "train/a.png", "train/b.png", "images/c.png")
    one = [{"image_id": 0, "category_id": 1, "segmentation": SQUARE}]
    coco(tmp_path, ["a.png", "b.png"], one, "train/_annotations.coco.json")
    coco(tmp_path, ["c.png"], one, "annotations/instances_val2017.json")
    write(tmp_path, {"annotations/other.json": '{"images": 3}', "notes.json": "[1", "deep.json": "[" * 100_000})
    assert {s.image: s.official for s in listed(tmp_path).sources} == {
        "train/a.png": "2",
        "train/b.png": "2",
        "images/c.png": "1",
    }


def test_a_name_that_two_pictures_have_needs_the_folder(tmp_path: Path) -> None:
    names(tmp_path, "one/a.png", "two/a.png")
    coco(tmp_path, ["a.png"], [])
    with pytest.raises(DataError, match=r"'a\.png' may be one/a\.png or two/a\.png; name the folder with --images"):
        listed(tmp_path)
    assert [source.image for source in listed(tmp_path, images="two").sources] == ["two/a.png"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../../etc/a.png", "leaves the dataset root"),
        ("/etc/a.png", "is absolute"),
        ("C:\\a.png", "backslash"),
        ("a\nb.png", "control character"),
        (None, "is not text"),
        (7, "is not text"),
        ("none.png", "no such picture"),
    ],
)
def test_file_names_that_lead_nowhere(name: Any, told: str, tmp_path: Path) -> None:
    names(tmp_path, "a.png")
    with pytest.raises(DataError, match=rf"MYSET: 1 of 1 images of annotations\.json: .*{told}"):
        listed(coco(tmp_path, [name], []))


def test_an_image_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: listed in annotations\.json and in annotations\.json"):
        listed(coco(names(tmp_path, "a.png"), ["a.png", "a.png"], []))


def test_masks_are_written_once_and_never_over_others(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}.png": speckle(name) for name in "ab"})
    coco(tmp_path, ["a.png", "b.png"], [{"image_id": n, "category_id": 1, "segmentation": SQUARE} for n in (0, 1)])
    records = read_release("MYSET", tmp_path).records
    assert [(r.source.masks, r.lesion_pixels) for r in records] == [
        (("ultrarefiner_masks/MYSET/a.png",), 64),
        (("ultrarefiner_masks/MYSET/b.png",), 64),
    ]
    made = tmp_path / "ultrarefiner_masks/MYSET/a.png"
    before = made.stat().st_mtime_ns
    assert read_release("MYSET", tmp_path).records == records and made.stat().st_mtime_ns == before
    coco(tmp_path, ["a.png", "b.png"], [{"image_id": 1, "category_id": 1, "segmentation": SQUARE}])
    with pytest.raises(DataError, match=r"1 images cannot be read .*MYSET/a\.png: another mask is there; move it away"):
        read_release("MYSET", tmp_path)
    assert made.stat().st_mtime_ns == before


def test_an_annotation_that_cannot_be_drawn_is_told_with_its_image(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}.png": speckle(name) for name in "ab"})
    bad = {"image_id": 0, "category_id": 1, "segmentation": {"size": [1, 1], "counts": [1]}}
    coco(tmp_path, ["a.png", "b.png"], [bad, {"image_id": 1, "category_id": 1, "segmentation": SQUARE}])
    with pytest.raises(
        DataError, match=r"MYSET: 1 images .*: a: annotation 0: segmentation: size \[1, 1\], the image has"
    ):
        read_release("MYSET", tmp_path)
    release = read_release("MYSET", tmp_path, skip_bad=True)
    assert [record.source.id for record in release.records] == ["b"]
    assert list(release.excluded) == ["a"]


def test_a_root_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": speckle("a"), "ultrarefiner_masks": "a file"})
    coco(tmp_path, ["a.png"], [{"image_id": 0, "category_id": 1, "segmentation": SQUARE}])
    with pytest.raises(DataError, match=r"mask .*ultrarefiner_masks/MYSET/a\.png: cannot be written"):
        read_release("MYSET", tmp_path)
