"""The report of near-duplicates: what is in it, in which order, and that names and files cannot break it."""

import base64
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.manifests.duplicate_report import write_report
from ultrarefiner_monai.data.releases.copies.near_duplicates import duplicate_pairs
from ultrarefiner_monai.data.releases.copies.pairs import CONTENT, NAMED, NAMES, ONE_SCENE, SAME_FRAME, TABLE, CopyPair
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def records(make_record: Callable[..., Record]) -> list[Record]:
    """Three pairs that the hash calls alike: one class, opposite classes, lesion and normal."""
    of = {
        "a1": ("benign", "00"), "a2": ("benign", "00"),
        "b1": ("benign", "f0"), "b2": ("malignant", "f0"),
        "a3": ("benign", "cc"), "a4": ("normal", "cc"),
    }  # fmt: skip
    return [make_record(name, label, phash=byte * 32) for name, (label, byte) in of.items()]


@pytest.fixture
def release(records: list[Record], tmp_path: Path) -> Path:
    """Files of the records: grey 520 x 300 pictures, a square of 100 px as lesion."""
    root = tmp_path / "release"
    mask = np.zeros((300, 520), dtype=np.uint8)
    for record in records:
        mask[100:200, 200:300] = 255 if record.lesion_pixels else 0
        for path, pixels in ((record.source.image, np.full_like(mask, 90)), (record.source.masks[0], mask)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
    return root


def _pictures(page: str) -> list[np.ndarray]:
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(uri)))).astype(int) for uri in uris]


def test_json_holds_every_pair_opposite_labels_first(records: list[Record], tmp_path: Path) -> None:
    write_report(duplicate_pairs(records), None, tmp_path / "new")
    document = json.loads((tmp_path / "new/duplicates.json").read_text(encoding="utf-8"))
    assert [(pair["first"], pair["second"]) for pair in document["pairs"]] == [("b1", "b2"), ("a3", "a4"), ("a1", "a2")]
    assert document["pairs"][0] == {
        "first": "b1",
        "second": "b2",
        "labels": ["benign", "malignant"],
        "opposite": True,
        "patients": ["", ""],
        "same_patient": None,
        "found_by": "hash",
        "distance": 0,
        "mirror": "none",
        "correlation": None,
        "verdict": "unchecked",
    }
    kinds = {"hash": 3, "table": 0, "names": 0, "content": 0}
    assert document["counts"] == {"confirmed": 0, "refuted": 0, "unchecked": 3, "opposite": 1, **kinds}
    assert document["searched"] is False
    assert sorted(document["excluded"]) == ["a2", "a4", "b2"]


def test_sheet_shows_both_pictures_with_the_lesion_outlined(
    records: list[Record], release: Path, tmp_path: Path
) -> None:
    write_report(duplicate_pairs(records), lambda path: release / path, tmp_path)
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    pictures = _pictures(page)
    assert len(pictures) == 6
    yellow = [picture[..., 0] - picture[..., 2] > 60 for picture in pictures]
    assert [bool(mask.any()) for mask in yellow] == [True, True, True, False, True, True]  # a4 is normal
    rows, columns = np.nonzero(yellow[0])
    assert pictures[0].shape == (150, 260, 3)
    assert (abs(np.array([rows.min(), rows.max(), columns.min(), columns.max()]) - (50, 99, 100, 149)) <= 2).all()
    assert not yellow[0][60:90, 110:140].any()  # the inside stays visible
    assert page.index(">b1<") < page.index("opposite labels</span>") < page.index(">a3<") < page.index(">a1<")
    assert "labels differ</span>" in page


def test_sheet_runs_no_script_and_loads_nothing(records: list[Record], release: Path, tmp_path: Path) -> None:
    write_report(duplicate_pairs(records), lambda path: release / path, tmp_path)
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|https?:|@import|url\(", page)
    assert '<meta name="viewport"' in page


def test_names_are_escaped(make_record: Callable[..., Record], tmp_path: Path) -> None:
    named = [make_record(name, phash="00" * 32) for name in ("<script>alert(1)</script>", '"&ä')]
    write_report(duplicate_pairs(named), None, tmp_path)
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&#34;&amp;ä" in page


def test_no_pair_is_a_report_too(tmp_path: Path) -> None:
    write_report([], None, tmp_path)
    assert json.loads((tmp_path / "duplicates.json").read_text(encoding="utf-8"))["pairs"] == []
    assert "<article" not in (tmp_path / "duplicates.html").read_text(encoding="utf-8")


def test_an_unreadable_picture_is_named(records: list[Record], release: Path, tmp_path: Path) -> None:
    (release / records[0].source.image).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a1\.png: cannot be read as an image"):
        write_report(duplicate_pairs(records), lambda path: release / path, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"file/report/duplicates\.json: cannot be written .*; free space or name another folder"
    ):
        write_report([], None, tmp_path / "file/report")


def test_copies_are_told_with_what_found_them(make_record: Callable[..., Record], tmp_path: Path) -> None:
    a, b, c, d = (make_record(name, label) for name, label in zip("abcd", ("benign", "malignant") * 2, strict=True))
    pairs = [CopyPair(a, c, SAME_FRAME, TABLE, 0.95, "scale 0.98"), CopyPair(a, d, NAMED, NAMES)]
    found = [CopyPair(b, c, ONE_SCENE, CONTENT, 0.61234, "mirrored, scale 1.50")]
    write_report(pairs, None, tmp_path, found)
    document = json.loads((tmp_path / "duplicates.json").read_text(encoding="utf-8"))
    assert [(pair["first"], pair["second"], pair["found_by"], pair["opposite"]) for pair in document["pairs"]] == [
        ("a", "d", "names", True),
        ("b", "c", "content", True),
        ("a", "c", "table", False),
    ]
    content = document["pairs"][1]
    assert (content["kind"], content["transform"]) == (ONE_SCENE, "mirrored, scale 1.50")
    assert (content["correlation"], content["verdict"]) == (0.6123, "confirmed")
    assert document["pairs"][0]["verdict"] == "unchecked"
    assert document["excluded"] == {"c": "near-duplicate of a"}  # what was found alone is left out of nothing
    assert document["searched"] is True and document["counts"]["content"] == 1
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    assert "1 were found by content" in page
    assert f"{ONE_SCENE} (by content)" in page and "mirrored, scale 1.50, correlation 0.61" in page
    write_report(pairs, None, tmp_path)
    assert "was\nnot searched" in (tmp_path / "duplicates.html").read_text(encoding="utf-8")


def test_images_that_pairs_connect_are_one_cluster_each_shown_once(
    make_record: Callable[..., Record], tmp_path: Path
) -> None:
    labels = {"a": "benign", "b": "normal", "c": "malignant", "x": "benign", "y": "benign"}
    a, b, c, x, y = (make_record(name, label) for name, label in labels.items())
    pairs = [CopyPair(one, other, SAME_FRAME, TABLE, 0.95) for one, other in ((x, y), (a, b), (b, c))]
    write_report(pairs, None, tmp_path)
    first, second = json.loads((tmp_path / "duplicates.json").read_text(encoding="utf-8"))["clusters"]
    assert [image["id"] for image in first["images"]] == ["a", "b", "c"] and first["opposite"]
    assert [image["id"] for image in second["images"]] == ["x", "y"] and not second["opposite"]
    assert (first["labels"], first["pairs"], second["pairs"]) == (["benign", "malignant", "normal"], [0, 1], [2])
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    assert page.count("<article") == 2 and page.count("<b>b</b>") == 1
    assert "a and b:" in page and "x and y:" not in page  # of two images nobody asks which
    assert "only clusters with opposite labels\n(1 of 2)" in page


def test_there_is_no_filter_where_it_would_leave_nothing(make_record: Callable[..., Record], tmp_path: Path) -> None:
    write_report([CopyPair(make_record("x"), make_record("y"), SAME_FRAME, TABLE, 0.95)], None, tmp_path)
    assert "checkbox" not in (tmp_path / "duplicates.html").read_text(encoding="utf-8")
