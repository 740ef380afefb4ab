"""Key points of an image, and those of its mirror image without looking at it."""

from pathlib import Path

import numpy as np
import pytest
from made_speckle import speckled

from ultrarefiner_monai.data.releases.copies.features import LENGTH, SIDE, describe, features_of, working_pixels
from ultrarefiner_monai.errors import DataError


@pytest.mark.parametrize(
    ("shape", "size"), [((256, 256), (256, 256)), ((200, 800), (128, 512)), ((100, 25), (512, 128))]
)
def test_images_are_looked_at_with_one_area(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = working_pixels(np.full(shape, 0.5, np.float32))
    assert pixels.shape == size and pixels.dtype == np.uint8 and (pixels == 128).all()


def test_a_strip_is_no_obstacle() -> None:
    assert working_pixels(np.zeros((3, 3000), np.float32)).shape[0] == 32


def test_the_mirror_image_is_described_by_a_permutation() -> None:
    pixels = np.asarray(speckled(0, 240, 200))
    mirrored, seen = describe(pixels).mirrored(), describe(pixels[:, ::-1].copy())
    assert len(mirrored.places) > 50
    apart = np.abs((mirrored.places + 239)[:, None] - seen.places)
    one, other = np.nonzero(apart < 0.5)
    assert len(set(one)) > 0.9 * len(mirrored.places)
    alike = (mirrored.descriptors[one] * seen.descriptors[other]).sum(axis=1)
    plain = (describe(pixels).descriptors[one] * seen.descriptors[other]).sum(axis=1)
    assert np.median(alike) > 0.95 > 0.85 > np.median(plain)


def test_descriptors_have_length_one_and_files_are_read_alike(tmp_path: Path) -> None:
    speckled(1, 512, 512).save(tmp_path / "a.png")
    features = features_of(tmp_path / "a.png")
    assert features.zoom == 0.5 and features.pixels.shape == (SIDE, SIDE)
    assert features.descriptors.shape[1] == LENGTH
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(256, 256), (32, 2048), (40, 40)])
def test_an_image_without_structure_has_no_key_points(shape: tuple[int, int]) -> None:
    features = describe(np.full(shape, 7, np.uint8))
    assert len(features.places) == len(features.mirrored().places) == 0


def test_no_image_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        features_of(tmp_path / "a.png")
