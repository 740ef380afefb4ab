"""The letterbox keeps shapes, pads with zeros right and bottom, and its inverse goes back to the file's own size."""

import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd

from ultrarefiner_monai.transforms import Letterboxd, letterbox, undo_letterbox


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


def test_inverse_restores_a_smooth_picture():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 140), indexing="ij")
    image = (0.3 * rows + 0.6 * columns)[None]
    assert (undo_letterbox(letterbox(image, 256), (90, 140)) - image).abs().max() < 0.01


def test_known_rectangle_comes_back_pixel_for_pixel():
    mask = torch.zeros(1, 50, 80)
    mask[:, 10:30, 20:60] = 1
    assert torch.equal(undo_letterbox(letterbox(mask, 160), (50, 80)) >= 0.5, mask > 0)


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
