"""nnU-Net's raw layout and US30K's lists."""

import json
from pathlib import Path

import pytest
from made_own import listed, masks_of, names, write

from ultrarefiner_monai.errors import DataError

PNG = json.dumps({"file_ending": ".png", "labels": {"background": 0, "lesion": 1}, "numTraining": 2})


def test_nnunet_raw(tmp_path: Path) -> None:
    names(tmp_path, "D/imagesTr/c_1_0000.png", "D/imagesTr/c_2_0000.png", "D/labelsTr/c_1.png", "D/labelsTr/c_2.png")
    write(tmp_path, {"D/dataset.json": PNG})
    listing = listed(tmp_path)
    assert masks_of(listing) == {f"D/imagesTr/c_{n}_0000.png": (f"D/labelsTr/c_{n}.png",) for n in (1, 2)}
    assert [source.official for source in listing.sources] == ["train", "train"]
    names(tmp_path, "D/imagesTs/t_0000.png")
    assert "1 other pictures are left alone: D/imagesTs/ (1)" in listed(tmp_path).notes
    names(tmp_path, "D/labelsTs/t.png")
    assert {s.image: s.official for s in listed(tmp_path).sources}["D/imagesTs/t_0000.png"] == "test"


@pytest.mark.parametrize(
    ("about", "files", "told"),
    [
        (
            {"file_ending": ".nii.gz"},
            ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"],
            "'.nii.gz', which no picture has; build volumes as NIFTI",
        ),
        ({}, ["imagesTr/a_0000.nii.gz"], "'.nii.gz', which no picture has"),
        (
            {"file_ending": ".png"},
            ["imagesTr/a_0000.png", "imagesTr/a_0001.png", "labelsTr/a.png"],
            "expected one channel",
        ),
        ({"file_ending": ".png"}, ["imagesTr/a.png", "labelsTr/a.png"], "expected one channel, NAME_0000"),
        (
            {"file_ending": ".png"},
            ["imagesTr/a_0000.png", "labelsTr/b.png"],
            "1 of 1 images have no mask: imagesTr/a_0000.png; looked for labelsTr",
        ),
        ({"file_ending": ".png", "labels": {"ignore": 2}}, ["imagesTr/a_0000.png"], "label 'ignore'"),
        (None, ["imagesTr/a_0000.png"], "dataset.json: cannot be read as JSON"),
    ],
)
def test_what_of_nnunet_is_not_read(about: dict | None, files: list[str], told: str, tmp_path: Path) -> None:
    names(tmp_path, *files)
    if about is not None:
        write(tmp_path, {"dataset.json": json.dumps(about)})
    with pytest.raises(DataError, match=told):
        listed(tmp_path)


def _us30k(root: Path, **lists: str) -> Path:
    names(root, *(f"Breast-A/{kind}/{name}.png" for kind in ("img", "label") for name in ("one", "two", "three")))
    names(root, "Thyroid/img/t.png", "Thyroid/label/t.png")
    write(root, {f"MainPatient/{name.replace('_', '-')}.txt": text for name, text in lists.items()})
    return write(root, {"MainPatient/class.json": json.dumps({"Breast-A": 2, "Thyroid": 2, "Heart": 4})})


def test_us30k_lists(tmp_path: Path) -> None:
    root = _us30k(
        tmp_path, train="1/Breast-A/one\n1/Thyroid/t\n", val="1/Breast-A/two\n", test_Breast_A="Breast-A/three\n\n"
    )
    listing = listed(root)
    assert {s.image: (s.masks, s.official) for s in listing.sources} == {
        "Breast-A/img/one.png": (("Breast-A/label/one.png",), "2"),
        "Breast-A/img/two.png": (("Breast-A/label/two.png",), "1"),
        "Breast-A/img/three.png": (("Breast-A/label/three.png",), "test"),
        "Thyroid/img/t.png": (("Thyroid/label/t.png",), "2"),
    }
    assert len(listed(root, images="Breast-A").sources) == 3


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"train": "1/Breast-A/four\n"}, r"train\.txt line 1: no image Breast-A/img/four"),
        ({"train": "1/Breast-A/../../x\n"}, "expected SUBSET/NAME or VALUE/SUBSET/NAME"),
        ({"train": "1/Breast-A/one", "val": "1/Breast-A/one"}, "one.png is in train and in val"),
        ({"other": "1/Breast-A/one"}, r"expected train\.txt, val\.txt and test\.txt"),
        ({"train": "one"}, "found 'one'"),
    ],
)
def test_faulty_us30k_lists(lists: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        listed(_us30k(tmp_path, **lists))


def test_us30k_labels_with_several_values_are_refused(tmp_path: Path) -> None:
    root = _us30k(tmp_path, train="1/Heart/h\n")
    names(root, "Heart/img/h.png", "Heart/label/h.png")
    with pytest.raises(DataError, match=r"class\.json: Heart: expected 2 values, background and lesion, found 4"):
        listed(root)
