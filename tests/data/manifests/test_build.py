"""The builder: nothing leaks, nothing but the content decides the bytes, every image is in one list with a reason."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifests.build import build_document, encode, write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.data.releases.release import usable
from ultrarefiner_monai.errors import DataError


def build(name: str, records: list[Record], **options) -> dict:
    """Document of the manifest of `records`."""
    return build_document(usable(name, records), Options(**options))


def _images(make_record, count: int = 40, **facts) -> list[Record]:
    return [make_record(f"i{n:03}", ("benign", "malignant")[n % 3 == 0], **facts) for n in range(count)]


def test_top_level_content(make_record) -> None:
    document = build("BUSI", [*_images(make_record), make_record("n1", "normal")])
    assert document["labels"] == {"0": "background", "1": "lesion"}
    assert (document["num_folds"], document["seed"], document["test_fraction"]) == (5, 42, 0.2)
    assert document["numTraining"] + document["numTest"] == 40
    assert document["numNormal"] == 1
    assert document["classes"]["training"]["benign"] + document["classes"]["testing"]["benign"] == 26
    assert set(document) >= {
        "schema",
        "name",
        "description",
        "reference",
        "licence",
        "modality",
        "grouping",
        "warnings",
    }
    assert [item["id"] for item in document["training"]] == sorted(item["id"] for item in document["training"])


def test_an_item_holds_its_facts(make_record) -> None:
    masks = ("masks/a.png", "masks/a_1.png")
    records = [*_images(make_record), make_record("a", masks=masks, patient="7", size=(100, 80))]
    document = build("BUSI", records, test_fraction=0)
    (item,) = (item for item in document["training"] if item["id"] == "a")
    assert item["image"] == "images/a.png"
    assert item["label"] == list(masks)
    assert len(item["label_sha256"]) == 2
    assert (item["patient"], item["group"], item["class"]) == ("7", "a", "benign")
    assert (item["width"], item["height"]) == (100, 80)
    assert "image_size" not in item


def test_an_unknown_patient_is_its_group(make_record) -> None:
    for item in build("BUSI", _images(make_record))["training"]:
        assert item["patient"] == item["group"] == item["id"]


def test_unusable_images_are_excluded_with_a_reason(make_record) -> None:
    records = [
        make_record("blank", lesion_pixels=0),
        make_record("contrary", "normal", lesion_pixels=9),
        make_record("nomask", masks=()),
        make_record("odd", mask_sizes=((90, 80),)),
        make_record("turned", size=(80, 100), orientation=6),
        make_record("two", masks=("a.png", "b.png"), mask_sizes=((100, 80), (50, 40))),
    ]
    document = build("BUSI", _images(make_record) + records)
    assert {entry["id"]: entry["reason"] for entry in document["excluded"]} == {
        "blank": "blank mask although the class is benign",
        "contrary": "9 lesion pixels although the class is normal",
        "nomask": "no mask file",
        "odd": "image is 100x80, mask is 90x80",
        "turned": "image is 80x100 once turned (EXIF orientation 6), mask is 100x80",
        "two": "masks of different sizes: 100x80, 50x40",
    }
    assert document["numTraining"] + document["numTest"] == 40


def test_a_blank_mask_of_unknown_class_is_a_normal_image(make_record) -> None:
    records = [make_record(f"i{n}", "unknown") for n in range(12)] + [make_record("b", "unknown", lesion_pixels=0)]
    assert [item["id"] for item in build("BUS", records)["normal"]] == ["b"]


def test_normals_lie_where_their_patient_lies(make_record) -> None:
    lesions = [make_record(f"i{n}", patient=str(n)) for n in range(20)]
    normals = [make_record(f"n{n}", "normal", patient=str(n)) for n in range(25)]
    document = build("BUS_UCLM", lesions + normals)
    places = {item["patient"]: item.get("fold") for key in ("training", "testing") for item in document[key]}
    normal = {item["patient"]: item.get("fold") for item in document["normal"]}
    assert len(normal) == 25
    assert {patient: normal[patient] for patient in places} == places


def test_normals_of_their_own_are_spread_like_the_lesions(make_record) -> None:
    normals = [make_record(f"n{n}", "normal") for n in range(50)]
    document = build("BUSI", _images(make_record, 50) + normals)
    counts = Counter(item.get("fold", "held out") for item in document["normal"])
    assert counts == {"held out": 10} | dict.fromkeys(range(5), 8)


def test_stretched_images_are_flagged_and_scored_on_the_mask(make_record) -> None:
    document = build("BUS_UCLM", [*_images(make_record), make_record("HESN_1", size=(61, 40))], test_fraction=0)
    (item,) = (item for item in document["training"] if item["id"] == "HESN_1")
    assert (item["width"], item["height"], item["image_size"]) == (100, 80, [61, 40])
    assert document["warnings"] == ["HESN_1: image 61x40 is stretched onto its mask's grid 100x80"]


def test_turned_and_deep_images_are_told(make_record) -> None:
    records = _images(make_record)
    assert build("BUSI", records)["warnings"] == []
    odd = [make_record(f"odd{n}", orientation=o, white=w) for n, (o, w) in enumerate(((6, 255), (3, 4095), (1, 4095)))]
    assert build("BUSI", records + odd)["warnings"] == [
        "turned as their EXIF orientation says, 2 images: odd0, odd1",
        "white is the stored value 4095 in 2 images",
    ]


def test_opposite_labels_stay_together_and_are_reported(make_record) -> None:
    twins = [make_record("x", "benign", phash="0" * 64), make_record("y", "malignant", phash="0" * 64)]
    document = build("BUSI", _images(make_record) + twins)
    assert document["warnings"] == ["near-duplicates with opposite labels: x (benign) and y (malignant)"]
    items = {item["id"]: item for key in ("training", "testing") for item in document[key]}
    assert items["x"]["group"] == items["y"]["group"] == "x"
    assert items["x"].get("fold") == items["y"].get("fold")


def test_published_folds_are_taken(make_record) -> None:
    records = [make_record(f"i{n}", official=str(n % 5 + 1)) for n in range(20)]
    document = build("BUSBRA", records, folds="official")
    assert {item["id"]: item["fold"] for item in document["training"]} == {f"i{n}": n % 5 for n in range(20)}
    assert (document["num_folds"], document["testing"], document["split"]) == (5, [], "official")


def test_published_test_patients_are_taken(make_record) -> None:
    records = [make_record(f"{code}_{n}", patient=code) for code in ("COPE", "FLKA", *"ABCDEFG") for n in range(3)]
    document = build("BUS_UCLM", records, folds="official")
    assert {item["patient"] for item in document["testing"]} == {"COPE", "FLKA"}
    assert {item["fold"] for item in document["training"]} == set(range(5))


def test_a_group_across_the_published_split_stays_whole(make_record) -> None:
    records = [make_record(f"i{n}", official=str(n % 5 + 1)) for n in range(20)]
    records += [make_record(f"x{n}", official=str(n), phash="0" * 64) for n in (3, 2)]
    document = build("BUSBRA", records, folds="official")
    assert {item["fold"] for item in document["training"] if item["group"] == "x2"} == {1}
    assert "group x2 straddles the published split" in document["warnings"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": "official"}, "images have no place in a published split, .*; give --folds a number"),
        ({"folds": 1}, "expected a whole number from 2, or 'official'"),
        ({"folds": "five"}, "expected a whole number from 2"),
        ({"test_fraction": 1}, "expected a number from 0 to below 1"),
        ({"seed": "x"}, "expected a whole number"),
        ({"folds": 50}, "40 groups cannot fill"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str, make_record) -> None:
    with pytest.raises(DataError, match=message):
        build("BUSI", _images(make_record), **options)


def test_doubled_ids_and_empty_releases_are_refused(make_record) -> None:
    with pytest.raises(DataError, match="id 'a' occurs 2 times"):
        build("BUSI", [make_record("a"), make_record("a")])
    with pytest.raises(DataError, match="no usable images found"):
        build("BUSI", [])


def test_bytes_depend_on_content_and_seed_only(make_record) -> None:
    records = _images(make_record)
    shuffled = random.Random(0).sample(records, len(records))
    assert encode(build("BUSI", records)) == encode(build("BUSI", shuffled))
    assert encode(build("BUSI", records)) != encode(build("BUSI", records, seed=43))


def test_the_file_is_utf8_json_with_an_item_a_line(make_record, tmp_path: Path) -> None:
    document = build("BUSBRA", [*_images(make_record), make_record("übung")])
    write_manifest(document, tmp_path / "deep/BUSBRA.json")
    content = (tmp_path / "deep/BUSBRA.json").read_bytes()
    assert content.endswith(b"}\n")
    assert "übung".encode() in content
    assert json.loads(content) == document
    assert sum(line.startswith(b"  {") for line in content.splitlines()) == 41
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["BUSBRA.json"]
    assert load_manifest(tmp_path / "deep/BUSBRA.json").name == "BUSBRA"


def test_an_unwritable_folder_is_one_line(make_record, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"BUSI\.json: cannot be written"):
        write_manifest(build("BUSI", _images(make_record)), tmp_path / "file/BUSI.json")
