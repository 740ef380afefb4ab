"""The letterbox keeps shapes, pads with zeros right and bottom, and its inverse goes back to the file's own size."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd
from PIL import Image

from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.networks.letterbox import letterbox_labels
from ultrarefiner_monai.transforms import Letterboxd, LoadGreyd, LoadMaskd, SaveMaskd, letterbox, undo_letterbox
from ultrarefiner_monai.transforms.letterboxd import zoom_of


@pytest.mark.parametrize(("height", "width"), [(30, 60), (60, 30), (7, 100), (224, 224)])
def test_long_side_fills_the_square_and_the_rest_is_zero(height, width):
    fitted = letterbox(torch.ones(1, height, width), 64)
    rows, columns = round(64 * height / max(height, width)), round(64 * width / max(height, width))
    assert fitted.shape == (1, 64, 64)
    assert torch.allclose(fitted[0, :rows, :columns], torch.ones(rows, columns))
    assert fitted.sum().item() == pytest.approx(rows * columns, rel=1e-5)


def test_halving_averages_two_by_two_blocks():
    image = torch.tensor([[[0.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]])
    coarse = letterbox(image, 2)[0]
    assert coarse[0, 0] > coarse[1, 1] > coarse[0, 1] >= 0  # antialiasing sees every pixel


def test_labels_stay_whole_numbers_and_a_pixel_has_the_one_that_it_lies_in_most():
    labels = torch.zeros(1, 40, 40)
    labels[:, :20, :20], labels[:, :20, 20:], labels[:, 20:, :10] = 1, 3, 2
    fitted = letterbox_labels(labels, 10)
    assert torch.equal(fitted, labels[:, ::4, ::4])  # edges lie between the larger pixels but for one at half of one
    labels[:, :, 18:20] = 3  # half of the fifth column's pixels' four columns, beside 1: no number between them
    assert set(letterbox_labels(labels, 10).unique().tolist()) <= {0, 1, 2, 3}


def test_of_one_label_a_pixel_that_lies_in_it_by_half_is_its_own():
    mask = torch.zeros(1, 40, 40)
    mask[:, :, 10:30] = 1
    assert torch.equal(letterbox_labels(mask, 20), (letterbox(mask, 20) >= 0.5).float())


def test_inverse_restores_a_smooth_picture():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 140), indexing="ij")
    image = (0.3 * rows + 0.6 * columns)[None]
    assert (undo_letterbox(letterbox(image, 256), (90, 140)) - image).abs().max() < 0.01


def blob(height, width):
    """An asymmetric mask (1, H, W): a disc off the centre with a bar that touches the right edge."""
    rows, columns = np.indices((height, width))
    disc = np.hypot((rows - 0.35 * height) / height, (columns - 0.3 * width) / width) < 0.22
    bar = (abs(rows - 0.7 * height) <= 0.05 * height) & (columns >= 0.55 * width)
    return torch.from_numpy(disc | bar)[None].float()


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(50, 80), (81, 33), (7, 7), (1, 9), (9, 1)])
def test_a_mask_comes_back_exactly_from_a_multiple_of_its_size(height, width, factor):
    """Whatever its shape, if no part is thinner than two pixels: bilinear resampling eats single pixels."""
    blocks = torch.rand(1, height // 2 + 1, width // 2 + 1, generator=torch.Generator().manual_seed(1)) > 0.5
    mask = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, -height:, -width:].float()
    assert torch.equal(undo_letterbox(letterbox(mask, factor * max(height, width)), (height, width)) >= 0.5, mask > 0)


@pytest.mark.parametrize("size", [128, 224, 256])
@pytest.mark.parametrize(("height", "width"), [(20, 30), (101, 67), (353, 274), (255, 257), (606, 856)])
def test_a_mask_comes_back_but_for_its_outline(height, width, size):
    """Up- and downscaled, a pixel can differ only where the outline runs through the pixel that the square keeps of it."""
    mask = blob(height, width)
    back = undo_letterbox((letterbox(mask, size) >= 0.5).float(), (height, width)) >= 0.5
    assert back.shape == mask.shape
    reach = 2 * max(1, round(max(height, width) / size)) + 1
    grown = torch.nn.functional.max_pool2d(mask, reach, 1, reach // 2)
    shrunk = 1 - torch.nn.functional.max_pool2d(1 - mask, reach, 1, reach // 2)
    assert bool(((back >= shrunk.bool()) & (back <= grown.bool())).all())
    assert (back != mask.bool()).sum() < 0.05 * mask.sum()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (3, 1000)])
def test_sides_of_one_pixel_survive(height, width):
    fitted = letterbox(torch.ones(1, height, width), 64)
    assert fitted.shape == (1, 64, 64) and fitted.max() == pytest.approx(1)
    assert torch.allclose(undo_letterbox(fitted, (height, width)), torch.ones(1, height, width))


@pytest.mark.parametrize("size", [5, 9, 64])
def test_a_column_is_scaled_as_the_row_that_it_would_be_lying(size):
    """Regression: torch's antialiased resampling repeats one value all along an output that is one pixel wide."""
    row = torch.linspace(0, 1, 40)[None, None]
    lying, standing = letterbox(row, size), letterbox(row.mT, size)
    assert torch.allclose(standing.mT, lying)
    assert lying[0, 0, -1] > lying[0, 0, 0] + 0.5
    assert torch.allclose(undo_letterbox(standing, (40, 1)).mT, undo_letterbox(lying, (1, 40)))


def test_invertd_brings_each_prediction_of_a_batch_to_its_own_size():
    transform = Compose([Letterboxd(["image", "label"], 32, binary_keys="label")])
    shapes = [(20, 40), (33, 17)]
    images = [MetaTensor(torch.rand(1, *shape), meta={"name": "a"}) for shape in shapes]
    items = [transform({"image": image, "label": MetaTensor(torch.ones_like(image))}) for image in images]
    batch = list_data_collate(items)
    assert set(batch["label"].unique().tolist()) <= {0.0, 1.0}
    data = [item | {"pred": MetaTensor(batch["image"][i].as_tensor())} for i, item in enumerate(decollate_batch(batch))]
    invert = Invertd("pred", transform, orig_keys="image", nearest_interp=False)
    assert [tuple(invert(item)["pred"].shape[1:]) for item in data] == shapes


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize(("height", "width"), [(20, 30), (30, 20), (21, 37)])
def test_the_saved_mask_overlays_the_file_exactly(tmp_path, mode, height, width):
    """A network that answers with the bright pixels of its input: load, letterbox, invert and save must end where they lay."""
    shape = blob(height, width)[0].numpy() > 0
    values = shape.astype(np.uint16) * 65535 if mode == "I;16" else shape.astype(np.uint8) * 255
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values).convert(mode)
    image.save(tmp_path / "picture.png")
    Image.fromarray(shape).save(tmp_path / "mask.png")
    keys = ["image", "label"]
    fit = Compose([LoadGreyd("image"), LoadMaskd("label"), Letterboxd(keys, 2 * max(height, width), "label")])
    item = fit({"image": str(tmp_path / "picture.png"), "label": str(tmp_path / "mask.png")})
    assert torch.equal(item["image"].as_tensor() >= 0.5, item["label"].as_tensor() > 0)  # both on one grid
    item["pred"] = MetaTensor(item["image"].as_tensor())
    (item,) = decollate_batch(list_data_collate([item]))
    SaveMaskd("pred", str(tmp_path / "out"))(Invertd("pred", fit, orig_keys="image", nearest_interp=False)(item))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "picture.png")) == 255, shape)
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "picture.png"), shape)


@pytest.mark.parametrize(("spacing", "expected"), [(0.5, (4.0, 1.0)), (None, None)])
def test_an_image_of_a_batch_tells_how_it_was_scaled(spacing, expected):
    """As the panels of a validation take it: from batches that were put together and taken apart again."""
    fit = Letterboxd("image", 64, spacing=spacing)
    items = [fit({"image": torch.ones(1, 10, 40), "spacing": (2.0, 0.5)}) for _ in range(2)]
    assert [zoom_of(item["image"]) for item in decollate_batch(list_data_collate(items))] == [expected] * 2
    assert zoom_of(torch.ones(1, 64, 64)) is None
