import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_volumes import SHAPE, affine, case, make_amos, make_btcv, make_nnunet, stored

from ultrarefiner_monai.data.integrity.verification import verify
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.items import images_of
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.pixels import image_pixels, lesion_pixels
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.volumes import read_volume, scaled
from ultrarefiner_monai.errors import DataError

MADE = {"BTCV": make_btcv, "AMOS": make_amos, "NIFTI": make_nnunet}
THREE = Options(folds=3, test_fraction=0)


@pytest.mark.parametrize("name", MADE)
def test_a_folder_of_volumes_becomes_a_manifest(name: str, tmp_path: Path) -> None:
    root = MADE[name](tmp_path / "download/set")
    release = read_release(name, tmp_path)
    assert release.root == root
    write_manifest(build_document(release, THREE), tmp_path / f"{name}.json")
    manifest = load_manifest(tmp_path / f"{name}.json")
    assert len(manifest.training) == 3 + (name == "AMOS")
    for item in manifest.training:
        assert (item["width"], item["height"], item["depth"]) == SHAPE
        assert item["spacing"] == pytest.approx([4.0, 1.2, 1.5], abs=1e-4)  # z, y, x
        assert item["lesion_pixels"] == 16 * 14 * 7 + 10 * 10 * 6
    table = manifest.header["labels"]
    assert table["0"] == "background"
    assert table["1"] == ("spleen" if name == "BTCV" else "liver")
    assert len(table) == (14 if name == "BTCV" else 3)
    assert verify(tmp_path / f"{name}.json", root).faults == ()


def test_a_case_is_never_split_and_its_slices_are_items(tmp_path: Path) -> None:
    document = build_document(read_release("BTCV", make_btcv(tmp_path)), THREE)
    items = images_of(document["training"])
    assert len(items) == 3 * SHAPE[2]
    assert len({item["id"] for item in items}) == len({item["sha256"] for item in items}) == len(items)
    folds = {(item["case"], item["fold"]) for item in items}
    assert {case for case, _ in folds} == {"img0001", "img0002", "img0003"}
    assert len(folds) == 3
    first = items[0]
    assert (first["id"], first["sequence"], first["position"]) == ("img0001/0000", "img0001", 0)
    assert first["spacing"] == pytest.approx([1.2, 1.5], abs=1e-4)


def test_the_authors_validation_cases_are_the_official_test_set(tmp_path: Path) -> None:
    document = build_document(read_release("AMOS", make_amos(tmp_path, cases=5)), Options(folds="official"))
    assert [item["id"] for item in document["testing"]] == ["amos_0006"]
    assert {item["fold"] for item in document["training"]} == {0, 1, 2, 3, 4}


def test_one_organ_is_the_lesion_where_it_is_named(tmp_path: Path) -> None:
    root = make_amos(tmp_path)
    document = build_document(read_release("AMOS", root, organ="spleen"), Options(folds=2, test_fraction=0))
    first = document["training"][0]
    assert first["organ"] == 2
    assert first["lesion_pixels"] == 10 * 10 * 6
    item = images_of([first])[7]
    labels = case(1)[1][:, :, 7].T
    np.testing.assert_array_equal(lesion_pixels([root / first["label"]], item), labels == 2)
    del item["organ"]
    np.testing.assert_array_equal(lesion_pixels([root / first["label"]], item), labels > 0)
    with pytest.raises(DataError, match=r"organ 'splen': did you mean 'spleen'\?"):
        read_release("AMOS", root, organ="splen")
    with pytest.raises(DataError, match="BUSI: --organ names a label of volumes"):
        read_release("BUSI", root, organ="spleen")


def _labels(change):
    return lambda root: nibabel.save(change(case(2)[1]), root / "label/label0002.nii.gz")


def _image(change):
    return lambda root: nibabel.save(change(case(2)[0]), root / "img/img0002.nii.gz")


def _with_nan(voxels: np.ndarray) -> nibabel.Nifti1Image:
    voxels = voxels.astype(np.float32)
    voxels[3, 4, 5] = np.nan
    return stored(voxels, "SRA")


def _moved(labels: np.ndarray) -> nibabel.Nifti1Image:
    place = affine()
    place[0, 3] += 0.01
    return stored(labels, "SRA", place)


FAULTS = {
    "label outside the table": (
        _labels(lambda found: stored(found * 7, "SRA")),
        "labels 14: expected those of the table, 0 to 13",
    ),
    "float labels": (
        _labels(lambda found: stored(found * np.float32(0.5), "SRA")),
        "labels 0.5: expected whole numbers",
    ),
    "another shape": (
        _labels(lambda found: stored(found[:-1], "SRA")),
        r"image is \(12, 48, 40\), labels are \(12, 47, 40\)",
    ),
    "another affine": (_labels(_moved), "affines of image and labels differ by 0.01, expected at most 0.001"),
    "NaN": (_image(_with_nan), "1 voxels are NaN or infinite"),
    "4D": (_image(lambda found: nibabel.Nifti1Image(np.stack([found] * 2, 3), affine())), r"found \(48, 40, 12, 2\)"),
    "truncated": (
        lambda root: (root / "img/img0002.nii.gz").write_bytes((root / "img/img0002.nii.gz").read_bytes()[:3000]),
        "cannot be read as a volume",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_volume_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    root = make_btcv(tmp_path)
    spoil, words = FAULTS[fault]
    spoil(root)
    with pytest.raises(DataError, match=words) as error:
        read_release("BTCV", root)
    assert "\n" not in str(error.value)
    assert "0002.nii.gz" in str(error.value)
    assert [record.source.id for record in read_release("BTCV", root, skip_bad=True).records] == ["img0001", "img0003"]


def test_a_case_without_labels_is_excluded_and_one_without_any_label_is_normal(tmp_path: Path) -> None:
    root = make_btcv(tmp_path, cases=4)
    (root / "label/label0001.nii.gz").unlink()
    _labels(lambda found: stored(found * 0, "SRA"))(root)
    document = build_document(read_release("BTCV", root), Options(folds=2, test_fraction=0))
    assert [(entry["id"], entry["reason"]) for entry in document["excluded"]] == [("img0001", "no mask file")]
    assert [item["id"] for item in document["normal"]] == ["img0002"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "liver": 2}, "expected names by the numbers 0 to K"),
        ({"background": 0, "liver": 1, "ignore": 2}, "label 'ignore'"),
        (["liver"], "expected names by the numbers 0 to K"),
    ],
)
def test_a_table_that_is_none_is_refused(labels: object, words: str, tmp_path: Path) -> None:
    root = make_nnunet(tmp_path)
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError, match=words):
        read_release("NIFTI", root)


def test_several_channels_are_refused(tmp_path: Path) -> None:
    root = make_nnunet(tmp_path)
    shutil.copy(root / "imagesTr/a1_0000.nii.gz", root / "imagesTr/a1_0001.nii.gz")
    with pytest.raises(DataError, match=r"a1_0001\.nii\.gz: expected one channel"):
        read_release("NIFTI", root)


def test_volumes_are_built_by_themselves(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="BTCV: volumes are built by themselves and from files"):
        read_release("BUSI+BTCV", tmp_path)


def test_a_changed_volume_is_a_fault(tmp_path: Path) -> None:
    root = make_btcv(tmp_path / "set")
    write_manifest(build_document(read_release("BTCV", root), THREE), tmp_path / "BTCV.json")
    _labels(lambda found: stored(found, "LPS"))(root)
    (root / "img/img0003.nii.gz").unlink()
    assert [(fault.kind, fault.file) for fault in verify(tmp_path / "BTCV.json", root).faults] == [
        ("hash", "label/label0002.nii.gz"),
        ("missing", "img/img0003.nii.gz"),
    ]


def test_a_range_of_grey_values_stands_in_the_items(tmp_path):
    make_btcv(tmp_path)
    document = build_document(read_release("BTCV", tmp_path, clip=(-160, 240)), Options(folds=2, test_fraction=0))
    assert {tuple(item["clip"]) for item in document["training"]} == {(-160, 240)}
    write_manifest(document, tmp_path / "BTCV.json")
    manifest = load_manifest(tmp_path / "BTCV.json")
    item = manifest.split("train", 0)[5]
    expected = scaled(read_volume(tmp_path / item["image"]).voxels, (-160, 240))[:, :, item["slice"]].T
    np.testing.assert_array_equal(image_pixels(tmp_path / item["image"], item), expected)
    assert manifest.clip == (-160, 240)
    hashes = {
        tuple(range_): images_of([{**manifest.training[0], "clip": range_}])[5]["sha256"] for range_ in ([0, 1], [0, 2])
    }
    plain = {key: value for key, value in manifest.training[0].items() if key != "clip"}
    assert (
        len({*hashes.values(), images_of([plain])[5]["sha256"]}) == 3
    )  # no embedding or map of another range is taken for its own


@pytest.mark.parametrize("clip", [(240, -160), (1,), (3, 3)])
def test_a_range_that_is_none_is_refused(clip, tmp_path):
    make_btcv(tmp_path)
    with pytest.raises(DataError, match=r"clip .*: expected two numbers, the lower one first, such as -160,240"):
        read_release("BTCV", tmp_path, clip=clip)
