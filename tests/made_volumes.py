"""Folders of volumes as releases have them: few slices, anisotropic voxels, oblique affines, each case turned another way."""

import json
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

SHAPE = (48, 40, 12)
SPACING = (1.5, 1.2, 4.0)  # x, y, z in mm
TURNS = ("RAS", "LPS", "SRA", "LAS")  # of the files' axes
LABELS = {"background": 0, "liver": 1, "spleen": 2}


def affine(angle: float = 0.2) -> np.ndarray:
    """Axes turned by `angle` around z, voxels of SPACING, an origin elsewhere."""
    cosine, sine = np.cos(angle), np.sin(angle)
    found = np.eye(4)
    found[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ np.diag(SPACING)
    found[:3, 3] = (-30, 12, 100)
    return found


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels int16 in RAS+ order, and labels uint8: two dark boxes on bright speckle, none in the lowest slices."""
    generator = np.random.default_rng(seed)
    voxels = generator.normal(600, 60, SHAPE) + 300 * generator.random((6, 5, 1)).repeat(8, 0).repeat(8, 1)
    labels = np.zeros(SHAPE, np.uint8)
    x, y = (int(side) for side in generator.integers(2, 8, 2))
    labels[x : x + 16, y : y + 14, 3:10] = 1
    labels[x + 20 : x + 30, y + 16 : y + 26, 5:11] = 2
    voxels[labels == 1] -= 700
    voxels[labels == 2] -= 900
    return voxels.astype(np.int16), labels


def stored(voxels: np.ndarray, turn: str = "RAS", place: np.ndarray | None = None) -> nibabel.Nifti1Image:
    """Voxels in RAS+ order as a file whose axes are turned."""
    place = affine() if place is None else place
    turns = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(turn))
    image = nibabel.Nifti1Image(apply_orientation(voxels, turns), place @ inv_ornt_aff(turns, voxels.shape))
    image.header.set_xyzt_units("mm")
    return image


def write(folder: Path, images: str, labels: str, seed: int = 0) -> None:
    """One case; paths are below `folder`."""
    for path, voxels in zip((images, labels), case(seed), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(stored(voxels, TURNS[seed % len(TURNS)]), folder / path)


def make_btcv(folder: Path, cases: int = 3) -> Path:
    """`img/img0001.nii.gz` with `label/label0001.nii.gz`."""
    for number in range(1, cases + 1):
        write(folder, f"img/img{number:04d}.nii.gz", f"label/label{number:04d}.nii.gz", number)
    return folder


def make_amos(folder: Path, cases: int = 3) -> Path:
    """`imagesTr`, `labelsTr`, one more case of `imagesVa`, `labelsVa`, and `dataset.json` with three labels."""
    for number in range(1, cases + 2):
        split = "Va" if number > cases else "Tr"
        write(folder, f"images{split}/amos_{number:04d}.nii.gz", f"labels{split}/amos_{number:04d}.nii.gz", number)
    numbered = {str(number): name for name, number in LABELS.items()}
    (folder / "dataset.json").write_text(json.dumps({"labels": numbered}))
    return folder


def make_nnunet(folder: Path, cases: int = 3) -> Path:
    """`imagesTr/a1_0000.nii.gz`, `labelsTr/a1.nii.gz`, `dataset.json`."""
    for number in range(1, cases + 1):
        write(folder, f"imagesTr/a{number}_0000.nii.gz", f"labelsTr/a{number}.nii.gz", number)
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return folder
