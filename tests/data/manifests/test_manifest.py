"""A manifest is validated as a whole, split by fold, restricted to what is present, and readable by MONAI."""

import json
from pathlib import Path

import pytest

from ultrarefiner_monai.data.datasets import DATASETS
from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.manifest import available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import near_duplicate_pairs
from ultrarefiner_monai.errors import DataError

SHIPPED = ("BUSI", "BUSBRA", "BUS_UCLM")


def _item(name: str, group: str | None = None, **facts) -> dict:
    group = group or name
    item = {"id": name, "image": f"images/{name}.png", "label": f"masks/{name}.png", "class": "benign"}
    return {**item, "patient": group, "group": group, "width": 4, "height": 3, "sha256": "0" * 64, **facts}


@pytest.fixture
def document() -> dict:
    return {
        "schema": "ultrarefiner_monai/manifest/1",
        "name": "BUS",
        "num_folds": 2,
        "seed": 42,
        "description": "planted",
        "training": [
            _item("a", fold=0),
            _item("b", fold=1),
            _item("c", fold=1, label=["masks/c.png", "masks/c_1.png"]),
        ],
        "testing": [_item("d")],
        "normal": [_item("e", group="a", fold=0), _item("f"), _item("g", group="d")],
        "excluded": [{"id": "h", "reason": "no mask file"}],
    }


def _write(document: dict, folder: Path) -> Path:
    path = folder / "BUS.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _problems(document: dict, folder: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        load_manifest(_write(document, folder))
    assert "\n" not in str(caught.value)
    return caught.value.problems


def _ids(items: list[dict]) -> str:
    return "".join(item["id"] for item in items)


def test_fields_and_splits(document: dict, tmp_path: Path) -> None:
    manifest = load_manifest(_write(document, tmp_path))
    assert (manifest.name, manifest.num_folds, manifest.seed) == ("BUS", 2, 42)
    assert manifest.header["description"] == "planted"
    assert len(manifest.sha256) == 64
    assert [_ids(manifest.split(split, 0)) for split in ("train", "val", "test")] == ["bc", "a", "d"]
    assert [_ids(manifest.split(split, 1)) for split in ("train", "val", "test")] == ["a", "bc", "d"]
    assert masks_of(manifest.training[2]) == ["masks/c.png", "masks/c_1.png"]
    assert _ids(manifest.items()) == "abcdefg"


def test_a_model_never_meets_the_normals_it_was_trained_with(document: dict, tmp_path: Path) -> None:
    manifest = load_manifest(_write(document, tmp_path))
    assert _ids(manifest.split("normal", 0)) == "efg"
    assert _ids(manifest.split("normal", 1)) == "fg"  # fold 1's model may be trained with e
    assert [_ids(manifest.split("train_normal", fold)) for fold in (0, 1)] == ["", "e"]


def test_unknown_splits_and_folds_are_refused(document: dict, tmp_path: Path) -> None:
    manifest = load_manifest(_write(document, tmp_path))
    with pytest.raises(DataError, match="unknown split 'validation': expected one of train, val, test, normal"):
        manifest.split("validation", 0)
    with pytest.raises(DataError, match="fold 2 does not exist, expected 0 to 1"):
        manifest.split("train", 2)


def test_the_same_image_twice_is_refused(document: dict, tmp_path: Path) -> None:
    document["testing"].append(_item("z", image="images/a.png"))
    assert _problems(document, tmp_path) == ("images/a.png: image occurs 2 times",)


def test_a_group_or_patient_in_two_places_is_refused(document: dict, tmp_path: Path) -> None:
    document["training"] += [_item("p", group="b", fold=0), _item("q", patient="d", fold=0)]
    assert _problems(document, tmp_path) == (
        "group 'b' is in fold 0 and fold 1",
        "patient 'b' is in fold 0 and fold 1",
        "patient 'd' is in fold 0 and testing",
    )


def test_folds_out_of_range_are_refused(document: dict, tmp_path: Path) -> None:
    document["training"].append(_item("p", fold=2))
    assert _problems(document, tmp_path) == ("p: fold 2 is not one of 0 to 1",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": "other"}, "expected schema"),
        ({"training": None}, "training: expected a list"),
        ({"num_folds": "5"}, "num_folds: expected a whole number"),
        ({"testing": ["d"]}, "testing[0]: expected an object, found str"),
        ({"testing": [_item("d", width="4")]}, "testing[0]: key 'width': expected a whole number"),
        ({"testing": [_item("d", label=[])]}, "testing[0]: key 'label': expected at least one mask"),
        ({"testing": [_item("d", label=3)]}, "testing[0]: key 'label': expected text or a list"),
        ({"training": [_item("a")]}, "training[0]: key 'fold': expected a whole number"),
    ],
)
def test_malformed_structure_is_named(change: dict, problem: str, document: dict, tmp_path: Path) -> None:
    assert problem in _problems({**document, **change}, tmp_path)[0]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_files_that_are_no_manifest(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.json: (not valid JSON|expected a JSON object)"):
        load_manifest(tmp_path / "m.json")
    with pytest.raises(DataError, match="cannot be read"):
        load_manifest(tmp_path / "none.json")


def test_many_problems_stay_readable(document: dict, tmp_path: Path) -> None:
    document["testing"] += [_item(f"n{i}", image=f"/{i}.png") for i in range(50)]
    with pytest.raises(DataError, match="and 30 more") as caught:
        load_manifest(_write(document, tmp_path))
    assert len(caught.value.problems) == 50


def test_incomplete_releases_are_restricted_and_counted(document: dict, tmp_path: Path) -> None:
    manifest = load_manifest(_write(document, tmp_path))
    for name in ("a", "c", "d", "e"):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.png").touch()
    present, absent = available(manifest, tmp_path)
    assert _ids(present.items()) == "ade"  # c lacks its second mask
    assert absent == {"fold 1": 2, "normal": 2}
    assert (present.sha256, present.num_folds) == (manifest.sha256, 2)


def test_unknown_names_and_manifests_not_built_yet() -> None:
    with pytest.raises(DataError, match="unknown dataset 'busbra': did you mean 'BUSBRA'"):
        shipped_manifest("busbra")
    with pytest.raises(DataError, match=r"unknown dataset 'Image Net': expected one of BUSI, .* or a name of your own"):
        shipped_manifest("Image Net")
    with pytest.raises(DataError, match=r"no manifest data_manifests/BUSBRAA\.json: .*\(did you mean 'BUSBRA'\?\)"):
        shipped_manifest("BUSBRAA")
    with pytest.raises(DataError, match="ultrarefiner manifests build UDIAT --root"):
        shipped_manifest("UDIAT")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_leak_nothing(name: str) -> None:
    """No patient, group or near-duplicate lies in two folds, or in training and testing."""
    manifest = load_manifest(shipped_manifest(name))
    assert manifest.name == name in DATASETS
    lesions = [*manifest.training, *manifest.testing]
    places = [item.get("fold", "testing") for item in lesions]
    pairs = near_duplicate_pairs([item["phash16"] for item in lesions])
    assert [(lesions[i]["id"], lesions[j]["id"]) for i, j in pairs if places[i] != places[j]] == []
    assert all(item["lesion_pixels"] > 0 for item in lesions)
    assert all(item["lesion_pixels"] == 0 for item in manifest.normal)


@pytest.mark.parametrize(
    ("name", "lesions", "normals"), [("BUSI", 647, 133), ("BUSBRA", 1875, 0), ("BUS_UCLM", 264, 419)]
)
def test_shipped_manifests_are_complete_and_balanced(name: str, lesions: int, normals: int) -> None:
    manifest = load_manifest(shipped_manifest(name))
    everything = [*manifest.training, *manifest.testing]
    assert (len(everything), len(manifest.normal)) == (lesions, normals)
    malignant = sum(item["class"] == "malignant" for item in everything) / len(everything)
    allowed = 0.02 if name != "BUS_UCLM" else 0.07  # whole patients of up to 26 images cannot be balanced better
    for items in (manifest.testing, *(manifest.split("val", fold) for fold in range(5))):
        share = sum(item["class"] == "malignant" for item in items) / len(items)
        assert abs(share - malignant) <= allowed


def test_shipped_manifests_name_their_oddities() -> None:
    busi = load_manifest(shipped_manifest("BUSI"))
    items = {item["id"]: item for item in busi.items()}
    assert items["benign (433)"]["group"] == items["malignant (145)"]["group"]
    assert any("benign (433)" in text and "malignant (145)" in text for text in busi.header["warnings"])
    uclm = load_manifest(shipped_manifest("BUS_UCLM"))
    stretched = [item for item in uclm.items() if "image_size" in item]
    assert len(stretched) == 13 == sum(text.startswith("HESN_") for text in uclm.header["warnings"])
    assert all((item["width"], item["height"]) == (856, 606) for item in stretched)
    merged = [item for item in uclm.items() if item["id"].startswith(("CHCO", "CHVI"))]
    assert {item["patient"] for item in merged} == {"CHCO"}


@pytest.mark.parametrize("name", SHIPPED)
def test_monai_reads_the_shipped_manifests(name: str, tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    manifest = load_manifest(shipped_manifest(name))
    for key in ("training", "testing"):
        items = load_decathlon_datalist(manifest.path, True, key, base_dir=tmp_path)
        assert [item["id"] for item in items] == [item["id"] for item in getattr(manifest, key)]
        assert items[0]["image"] == str(tmp_path / getattr(manifest, key)[0]["image"])
