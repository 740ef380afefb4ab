"""Masks beside their images are told in the layout of every release, and nothing else is taken for one."""

from pathlib import Path

import pytest

from ultrarefiner_monai.data.masks_beside import masks_among
from ultrarefiner_monai.deploy.images.find import find_files, stem

LAYOUTS = {  # images, and masks
    "BUSI": (
        ["benign/benign (1).png", "benign/benign (4).png", "normal/normal (1).png"],
        ["benign/benign (1)_mask.png", "benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png"],
    ),
    "BUSBRA": (["Images/bus_0001-l.png"], ["Masks/mask_0001-l.png"]),
    "BUS": (["original/000001.png"], ["GT/000001.png"]),
    "BUS_UC": (
        ["Benign/images/001.png", "Malignant/images/001.png", "All/images/001.png"],
        ["Benign/masks/001.png", "Malignant/masks/001.png", "All/masks/001.png"],
    ),
    "BUS_UCLM": (["images/ALWI_000.png"], ["masks/ALWI_000.png"]),
    "nnU-Net": (["imagesTr/a_0000.nii.gz", "imagesTs/b_0000.nii.gz"], ["labelsTr/a.nii.gz"]),
    "sets": (["train/images/a.jpg", "val/images/b.jpg"], ["train/masks/a.png", "val/masks/b.png"]),
    "masks of sets": (["train/a.jpg", "val/b.jpg"], ["train_masks/a.png", "val-masks/b.png"]),
    "one folder": (["a.png", "b.jpg", "c.dcm"], ["a_mask.png", "b-gt.bmp", "c_seg.nii.gz"]),
    "below the images": (["a.png"], ["ground_truth/a.png", "Ground Truth/more/a.png", "seg/a.png"]),
    "no masks": (
        ["mask_of_no_image_mask.png", "a.png", "segs_of_a/b.png", "dataset_with_GT/c.png", "b_mask_2x.png"],
        [],
    ),
}


def made(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [root / name for name in names]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("above", ["", "data/release_with_GT"])
def test_the_masks_of_a_folder_are_left_out(layout, above, tmp_path):
    images, masks = (made(tmp_path / "in" / above, names) for names in LAYOUTS[layout])
    found, left = find_files([tmp_path / "in"], tmp_path / "out")
    assert {file.path for file in found} == set(images)
    assert set(left) == set(masks)


def test_a_folder_of_masks_that_is_asked_for_is_one_of_images(tmp_path):
    images, masks = (made(tmp_path, names) for names in LAYOUTS["BUS"])
    found, left = find_files([tmp_path / "GT"], tmp_path / "out")
    assert ([file.path for file in found], left) == (masks, [])
    found, left = find_files([tmp_path, tmp_path / "GT/000001.png"], tmp_path / "out")
    assert ({file.path for file in found}, left) == ({*images, *masks}, [])
    found, left = find_files([str(tmp_path / "*/*.png")], tmp_path / "out")  # a pattern means what fits it
    assert (len(found), left) == (2, [])


def test_folders_that_fit_a_pattern_are_folders(tmp_path):
    made(tmp_path, [*LAYOUTS["BUSI"][0], *LAYOUTS["BUSI"][1]])
    found, left = find_files([str(tmp_path / "b*")], tmp_path / "out")
    assert [file.name for file in found] == ["benign/benign (1)", "benign/benign (4)"] and len(left) == 3


def test_masks_without_any_image_beside_them_are_images():
    files = [Path("/in/masks/a.png"), Path("/in/b_mask.png")]
    assert masks_among(files[:1], Path("/in"), stem) == set()
    assert masks_among(files, Path("/in"), stem) == {files[0]}


@pytest.mark.parametrize(
    ("release", "images", "masks"), [("BUSI", 145, 163), ("BUS-BRA", 752, 752), ("BUS-UCLM", 91, 91)]
)
def test_real_releases(release, images, masks, shared_data, tmp_path):
    found, left = find_files([shared_data / release], tmp_path)
    assert (len(found), len(left)) == (images, masks)


def test_masks_that_build_has_written_are_masks(tmp_path):
    images, masks = made(tmp_path, ["images/a.png"]), made(tmp_path, ["ultrarefiner_masks/MYSET/images/a.png"])
    assert masks_among([*images, *masks], tmp_path, stem) == set(masks)
