from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_volumes import SHAPE, TURNS, case, stored

from ultrarefiner_monai.data.volumes import (
    as_stored,
    grey_slice,
    is_volume,
    label_slice,
    read_grid,
    read_labels,
    read_volume,
    scaled,
)
from ultrarefiner_monai.errors import DataError


@pytest.mark.parametrize("turn", [*TURNS, "PIR", "IPL"])
def test_any_orientation_is_read_as_ras_and_written_back_as_it_was(turn: str, tmp_path: Path) -> None:
    voxels, labels = case(1)
    nibabel.save(stored(voxels, turn), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.grid.spacing == pytest.approx((4.0, 1.2, 1.5), abs=1e-5)
    assert read_grid(tmp_path / "a.nii.gz").size == SHAPE
    back = as_stored(labels, volume.grid)
    expected = stored(labels, turn)
    assert nibabel.aff2axcodes(back.affine) == tuple(turn)
    np.testing.assert_allclose(back.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(expected.dataobj))


def test_a_slice_is_a_plane_along_z_with_rows_of_x(tmp_path: Path) -> None:
    voxels, labels = case(1)
    nibabel.save(stored(voxels, "SRA"), tmp_path / "a.nii.gz")
    nibabel.save(stored(labels, "SRA"), tmp_path / "b.nii.gz")
    assert grey_slice(tmp_path / "a.nii.gz", 4).shape == (SHAPE[1], SHAPE[0])
    np.testing.assert_array_equal(grey_slice(tmp_path / "a.nii.gz", 4), scaled(voxels.astype(np.float32))[:, :, 4].T)
    np.testing.assert_array_equal(label_slice(tmp_path / "b.nii.gz", 6), labels[:, :, 6].T)


def test_grey_values_are_clipped_to_the_percentiles() -> None:
    voxels = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)  # percentiles 5 and 995
    found = scaled(voxels)
    assert found.min() == 0
    assert found.max() == 1
    assert found.ravel()[500] == pytest.approx(0.5)
    assert (found == 0).sum() == 6
    assert (scaled(np.full((2, 2, 2), 3.0)) == 0).all()


@pytest.mark.parametrize(
    ("shape", "several"), [((4, 5), False), ((4, 5, 1), False), ((4, 5, 2), True), ((4, 5, 1, 2), True)]
)
def test_the_header_tells_volumes_from_planes(shape: tuple[int, ...], several: bool, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "a.nii")
    assert is_volume(tmp_path / "a.nii") == several


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel.save(stored(case(1)[0]), tmp_path / "a.nii.gz")
    monkeypatch.setenv("ULTRAREFINER_MAX_PIXELS", "100")
    with pytest.raises(DataError, match="has 23040 voxels, more than the limit of 3200"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    nibabel.save(stored(case(1)[0]), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[312:328] = bytes(16)  # srow_z of NIfTI-1
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match="affine"):
        read_volume(tmp_path / "a.nii")


def test_labels_stored_as_whole_floats_are_labels(tmp_path: Path) -> None:
    labels = case(1)[1]
    nibabel.save(stored(labels.astype(np.float32)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii").voxels, labels)


def test_grey_values_are_clipped_to_a_named_range_by_hand(tmp_path):
    """A window of a CT: -160 HU and below are 0, 240 and above 1, 40 the middle, whatever the other voxels are."""
    voxels = np.zeros((4, 3, 2), np.int16)
    voxels[0, 0], voxels[1, 0], voxels[2, 0], voxels[3, 0] = -1000, -160, 40, 3000
    nibabel.save(stored(voxels), tmp_path / "a.nii.gz")
    for slices in (
        grey_slice(tmp_path / "a.nii.gz", 1, (-160, 240)),
        scaled(voxels.astype(np.float32), (-160, 240))[:, :, 1].T,
    ):
        assert slices[0].tolist() == pytest.approx([0, 0, 0.5, 1])
    assert grey_slice(tmp_path / "a.nii.gz", 1)[0].tolist() != pytest.approx([0, 0, 0.5, 1])  # of its percentiles
