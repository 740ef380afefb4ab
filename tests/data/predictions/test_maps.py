"""Maps return bit for bit, the way round that MONAI reads them, and damaged ones are told."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.predictions.maps import map_name, read_map, write_map
from ultrarefiner_monai.errors import DataError


def test_maps_return_bit_for_bit(tmp_path):
    prob = np.random.default_rng(0).random((37, 23), dtype=np.float32)
    prob[0, :3] = (0.0, 1.0, np.float32(1e-30))
    write_map(tmp_path / "deep/map.nii.gz", prob)
    back = read_map(tmp_path / "deep/map.nii.gz")
    assert back.dtype == np.float32
    assert np.array_equal(back, prob)


def test_the_same_map_gives_the_same_bytes_and_no_leftovers(tmp_path):
    prob = np.random.default_rng(0).random((9, 7))
    for name in ("a", "b"):
        write_map(tmp_path / f"{name}.nii.gz", prob)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_orientation_agrees_with_monai_on_an_asymmetric_image(tmp_path):
    from monai.transforms import LoadImage

    image = np.zeros((20, 30), np.uint8)
    image[2, 25], image[17, 4] = 255, 128  # one bright pixel top right, one grey bottom left
    Image.fromarray(image).save(tmp_path / "image.png")
    write_map(tmp_path / "image.nii.gz", image / 255)
    stored = np.asarray(nibabel.load(tmp_path / "image.nii.gz").dataobj)
    assert stored.shape == (30, 20)
    assert stored[25, 2] == 1.0
    assert read_map(tmp_path / "image.nii.gz")[2, 25] == 1.0
    load = LoadImage(image_only=True)
    np.testing.assert_allclose(load(tmp_path / "image.nii.gz") * 255, load(tmp_path / "image.png"), rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [np.full((2, 2), np.nan), np.full((2, 2), 1.1), np.full((2, 2), -0.1), np.zeros((1, 2, 2))]
)
def test_what_is_no_probability_map_is_not_written(tmp_path, bad):
    with pytest.raises(ValueError, match="a map must"):
        write_map(tmp_path / "map.nii.gz", bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"text" * 100, lambda b: b[:-4] + b"\0" * 4]
)
def test_damaged_and_missing_maps_are_one_line_errors(tmp_path, damage):
    path = tmp_path / "map.nii.gz"
    with pytest.raises(DataError, match="no such file; predict this image again"):
        read_map(path)
    write_map(path, np.random.default_rng(0).random((50, 40)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="cannot be read as a probability map"):
        read_map(path)


def test_a_volume_is_no_map(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.float32), np.eye(4)), tmp_path / "volume.nii.gz")
    with pytest.raises(DataError, match="expected a plane"):
        read_map(tmp_path / "volume.nii.gz")


def test_map_names_follow_the_image_and_keep_odd_ones():
    assert map_name("benign/benign (1).png") == "benign/benign (1).nii.gz"
    assert map_name("images/p.1.png") == "images/p.1.nii.gz"
