"""What is written for a picture, and where."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.images.find import open_image_file
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.deploy.predict.outputs import Outputs, frame_names, write_nifti
from ultrarefiner_monai.deploy.predict.overlays import overlay
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.ensemble import Consensus

SHAPE = (6, 9)
PROBABILITY = np.linspace(0, 1, 54, dtype=np.float32).reshape(SHAPE)
MASK = PROBABILITY >= 0.5


def test_every_kind_of_result_has_a_folder_and_every_frame_a_name(tmp_path):
    outputs = Outputs(tmp_path, probability=True, uncertainty="std", overlay=True)
    assert [path.relative_to(tmp_path).as_posix() for path in outputs.files("sub/a", 1)] == [
        *("masks/sub/a.png", "probability/sub/a.nii.gz", "uncertainty/sub/a.nii.gz", "overlays/sub/a.png")
    ]
    assert frame_names("a", 2) == ["a_frame0001", "a_frame0002"]
    assert outputs.mask_file("a", 2, 1) == tmp_path / "masks" / "a_frame0002.png"
    seg = Outputs(tmp_path, "dicom-seg", overlay=True)
    assert [path.name for path in seg.files("a", 2)] == ["a.dcm", "a_frame0001.png", "a_frame0002.png"]
    assert seg.mask_file("a", 2, 1) == tmp_path / "masks" / "a.dcm"


@pytest.mark.parametrize("uncertainty", ["entropy", "std"])
def test_files_hold_what_was_predicted_and_no_others_are_written(uncertainty, tmp_path):
    outputs = Outputs(tmp_path, probability=True, uncertainty=uncertainty, overlay=True)
    deviation = PROBABILITY / 2
    consensus = Consensus(PROBABILITY, deviation, 0.9)
    outputs.write(ImageFile(tmp_path / "a.png"), "sub/a", np.zeros(SHAPE, np.float32), consensus, MASK)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(outputs.files("sub/a", 1))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "masks/sub/a.png")), MASK * np.uint8(255))
    probability = nibabel.load(tmp_path / "probability/sub/a.nii.gz")
    assert probability.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(probability.dataobj).T, PROBABILITY)
    uncertain = np.asarray(nibabel.load(tmp_path / "uncertainty/sub/a.nii.gz").dataobj).T
    if uncertainty == "std":
        np.testing.assert_array_equal(uncertain, deviation)
    else:
        assert uncertain[0, 0] == uncertain[-1, -1] == 0 and uncertain.max() > 0.99


def test_an_overlay_shows_what_the_mask_was_left_without(tmp_path):
    probability = np.zeros((120, 120), dtype=np.float32)
    probability[40:80, 40:80], probability[10:14, 100:104] = 0.9, 0.55
    mask = probability > 0.8
    outputs, source = Outputs(tmp_path, overlay=True), ImageFile(tmp_path / "a.png", spacing=(0.1, 0.1))
    consensus = Consensus(probability, probability, 1)
    grey = np.full(mask.shape, 0.4, np.float32)
    outputs.write(source, "a", grey, consensus, mask)
    expected = overlay(grey, mask.astype(np.uint8), (probability > 0.5) & ~mask, (0.1, 0.1))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "overlays/a.png")), expected)
    assert (expected[9:15, 99:105] != 102).any()


def test_a_nifti_mask_lies_on_its_source(tmp_path):
    affine = np.array([[-0.1, 0, 0, 3], [0, 0, 1, 2], [0, -0.2, 0, 1], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image((PROBABILITY.T[..., None] * 255).astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    write_nifti(tmp_path / "mask.nii.gz", MASK.astype(np.uint8), open_image_file(tmp_path / "a.nii.gz"))
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), MASK.T[..., None])
    np.testing.assert_allclose(written.affine, affine)
    assert written.get_data_dtype() == np.uint8 and written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(written.header.get_zooms()[:2], (0.1, 0.2))


def test_a_nifti_of_another_source_has_the_size_of_its_pixels(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", PROBABILITY, ImageFile(tmp_path / "a.dcm", spacing=(0.2, 0.1)))
    written = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(written.header.get_zooms(), (0.1, 0.2))
    assert written.shape == (9, 6) and written.header.get_xyzt_units()[0] == "mm"
    write_nifti(tmp_path / "b.nii.gz", PROBABILITY, ImageFile(tmp_path / "b.png"))
    assert nibabel.load(tmp_path / "b.nii.gz").header.get_xyzt_units()[0] == "unknown"


def test_a_disk_that_refuses_is_told_with_the_path(tmp_path):
    (tmp_path / "masks").touch()
    outputs = Outputs(tmp_path)
    with pytest.raises(
        DataError, match=r"masks.a\.png: cannot be written \(.*\); free disk space or name another --out"
    ):
        outputs.write(ImageFile(tmp_path / "a.png"), "a", PROBABILITY, Consensus(PROBABILITY, PROBABILITY, 1), MASK)
