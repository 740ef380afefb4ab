"""Files become the tensors they should be, in rows and columns."""

import numpy as np
import pytest
import torch
from PIL import Image

from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.transforms import LoadGreyd, LoadMapd, LoadMaskd, LoadTruthd


def picture(path, pixels, mode="L"):
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)
    return str(path)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("shape", [(2, 3), (20, 30), (1, 7), (31, 17)])  # not square: a transposed reader would show
def test_every_mode_is_the_grey_original_in_rows_and_columns(tmp_path, mode, shape):
    pixels = np.arange(shape[0] * shape[1]).reshape(shape) * 250 // (shape[0] * shape[1])
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
    else:
        picture(path, pixels, mode)
    item = LoadGreyd("image")({"image": str(path)})
    assert item["image"].shape == (1, *shape)
    assert item["image"].dtype == torch.float32
    assert torch.allclose(item["image"][0].as_tensor(), torch.from_numpy(pixels / 255).float(), atol=0.01 / 255)
    assert item["image"].meta["spatial_shape"] == shape
    assert item["image_path"] == item["image"].meta["filename_or_obj"]


def test_image_and_mask_are_turned_alike(tmp_path):
    """An image with a tag and a mask without one, both as displayed, and a mask that has the image's tag."""
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(shown)))
    stored.save(tmp_path / "a.png", exif=exif)
    stored.point(lambda value: 255 * (value > 100)).save(tmp_path / "tagged.png", exif=exif)
    mask = picture(tmp_path / "mask.png", 255 * (shown > 100))
    for label in (mask, str(tmp_path / "tagged.png")):
        item = LoadMaskd("label")(
            LoadGreyd("image")({"image": str(tmp_path / "a.png"), "label": label, "width": 3, "height": 2})
        )
        assert torch.equal(item["image"][0].as_tensor(), torch.from_numpy(shown / np.float32(255)))
        assert torch.equal(item["label"][0].as_tensor(), torch.from_numpy(shown > 100).float())
        assert item["image"].meta["spatial_shape"] == (2, 3)


def test_picture_is_read_on_the_manifests_grid(tmp_path):
    path = picture(tmp_path / "a.png", np.full((4, 6), 100))
    assert LoadGreyd("image")({"image": path, "width": 12, "height": 8})["image"].shape == (1, 8, 12)


def test_masks_of_an_image_are_united_and_scored_at_their_own_size(tmp_path):
    left = picture(tmp_path / "left.png", [[255, 0, 0], [0, 0, 0]])
    right = picture(tmp_path / "right.png", [[0, 0, 0], [0, 0, 255]])
    item = LoadMaskd("label")({"label": f"{left}\0{right}"})
    expected = torch.tensor([[[1.0, 0, 0], [0, 0, 1]]])
    assert torch.equal(item["label"].as_tensor(), expected)
    assert torch.equal(LoadTruthd("truth")(item)["truth"], expected > 0)


def test_truth_is_left_out_where_no_mask_is_known():
    assert LoadTruthd("truth")({"id": "a"}) == {"id": "a"}


def test_map_round_trip(tmp_path):
    prob = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    write_map(tmp_path / "a.nii.gz", prob)
    loaded = LoadMapd("coarse")({"coarse": str(tmp_path / "a.nii.gz")})["coarse"]
    assert torch.equal(loaded.as_tensor(), torch.from_numpy(prob)[None])


def test_unreadable_picture_names_the_file(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        LoadGreyd("image")({"image": str(tmp_path / "broken.png")})
