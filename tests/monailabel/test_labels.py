"""Label files of other programs as masks: NIfTI and pictures here, NRRD where the server's environment has its reader."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.monailabel.labels import read_label, suffix_of
from ultrarefiner_monai.errors import DataError

SIZE = (50, 30)
LEFT_BACK = np.diag([-1.0, -1.0, 1.0, 1.0])  # as ITK and 3D Slicer write an image that has no orientation


@pytest.fixture
def mask():
    """An L in a corner: no turn and no mirror leaves it as it is."""
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[3:9, 4:40] = mask[9:25, 4:8] = True
    return mask


def save(path, values, affine, stated=True):
    image = nibabel.Nifti1Image(values, affine)
    if not stated:
        image.header["qform_code"] = image.header["sform_code"] = 0
        image = nibabel.Nifti1Image(values, None, image.header)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("affine", [np.eye(4), LEFT_BACK, np.diag([0.2, 0.3, 1, 1]), LEFT_BACK * 0.1])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_nifti_is_read_as_stored(affine, axes, kind, mask, tmp_path):
    values = (mask.T * 3).astype(kind).reshape((*SIZE, 1)[:axes])
    np.testing.assert_array_equal(read_label(save(tmp_path / "one.nii.gz", values, affine), SIZE), mask)


def test_suffixes_may_be_in_upper_case(mask, tmp_path):
    path = save(tmp_path / "one.nii.gz", mask.T.astype(np.uint8), np.eye(4)).rename(tmp_path / "one.NII.GZ")
    np.testing.assert_array_equal(read_label(path, SIZE), mask)


def test_nifti_without_an_orientation_is_read_as_stored(mask, tmp_path):
    path = save(tmp_path / "one.nii", mask.T.astype(np.uint8), np.eye(4), stated=False)
    assert not np.allclose(nibabel.load(path).affine, np.eye(4))  # nibabel's guess has x mirrored
    np.testing.assert_array_equal(read_label(path, SIZE), mask)


@pytest.mark.parametrize("signs", [(-1, 1), (1, -1)])
def test_a_mirrored_label_is_refused(signs, mask, tmp_path):
    path = save(tmp_path / "one.nii.gz", mask.T.astype(np.uint8), np.diag([*signs, 1, 1]))
    with pytest.raises(DataError, match=r"one\.nii\.gz: its axes are turned or mirrored .* geometry of the image"):
        read_label(path, SIZE)


def test_a_turned_label_is_refused(mask, tmp_path):
    path = save(tmp_path / "one.nii.gz", mask.T.astype(np.uint8), np.eye(4)[[1, 0, 2, 3]])
    with pytest.raises(DataError, match="turned or mirrored"):
        read_label(path, SIZE)


def test_every_numbered_segment_is_lesion(tmp_path):
    values = np.zeros((*SIZE, 1), np.int16)
    values[5, 6], values[7, 8], values[9, 10] = 1, 2, 300
    assert read_label(save(tmp_path / "one.nii.gz", values, np.eye(4)), SIZE).sum() == 3


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif"])
def test_pictures_have_lesion_1_or_255(top, suffix, mask, tmp_path):
    Image.fromarray(mask.astype(np.uint8) * top).save(tmp_path / f"one{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"one{suffix}", SIZE), mask)


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_another_size_is_refused_and_not_resized(suffix, mask, tmp_path):
    path = tmp_path / f"one{suffix}"
    half = mask[::2, ::2].astype(np.uint8)
    Image.fromarray(half).save(path) if suffix == ".png" else save(path, half.T, np.eye(4))
    with pytest.raises(
        DataError, match=rf"one\{suffix}: a label of 25x15, its image has 50x30; save it at the image's"
    ):
        read_label(path, SIZE)


def test_what_is_no_label_is_told(tmp_path):
    with pytest.raises(DataError, match=r"one\.mha: no kind of label; expected \.png, .*\.nrrd$"):
        read_label(tmp_path / "one.mha", SIZE)
    save(tmp_path / "volume.nii.gz", np.ones((*SIZE, 3), np.uint8), np.eye(4))
    with pytest.raises(DataError, match=r"expected a plane .*save its slices"):
        read_label(tmp_path / "volume.nii.gz", SIZE)
    (tmp_path / "broken.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(DataError, match="cannot be read as NIfTI"):
        read_label(tmp_path / "broken.nii.gz", SIZE)


def test_suffixes_of_labels():
    assert [suffix_of(name) for name in ("a.NII.GZ", "a.seg.nrrd", "a.b.png", "a", "a.dcm")] == [
        ".nii.gz",
        ".nrrd",
        ".png",
        "",
        "",
    ]
