"""SAM 2 for batches: published counts, any size, prompts equal to transformers' own, many prompts as one at a time."""

import pytest
import torch
from torch import Tensor, nn

from ultrarefiner_monai.networks.sam2 import Features, Sam2, build_sam2

SIDE = 128
BOXES = torch.tensor([[10.0, 20, 60, 90], [5, 5, 30, 40], [1, 2, 100, 120]])
ASKED = torch.tensor([0, 1, 1])  # one box in the first image, two in the second


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Positions and the absence of memory start at zero; give everything a value so that a comparison sees it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.1, generator=generator)


@pytest.fixture(scope="module")
def mini() -> Sam2:
    sam = build_sam2("mini", SIDE)
    randomise(sam)
    return sam


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def features(mini: Sam2, images: Tensor) -> Features:
    with torch.no_grad():
        return mini.features(images)


@pytest.mark.parametrize(
    ("variant", "encoder", "version_20", "version_21"),
    [
        ("tiny", 27_219_136, 38_945_986, 38_962_498),
        ("small", 34_316_992, 46_043_842, 46_060_354),
        ("base_plus", 69_106_816, 80_833_666, 80_850_178),
        ("large", 212_703_280, 224_430_130, 224_446_642),
        ("mini", 820_256, 12_547_106, 12_563_618),
    ],
)
def test_parameter_counts_are_the_published_ones(variant: str, encoder: int, version_20: int, version_21: int):
    with torch.device("meta"):
        old, new = (build_sam2(variant, version=version) for version in ("2.0", "2.1"))
    assert count(old.image_encoder) == count(new.image_encoder) == encoder
    assert (count(old), count(new)) == (version_20, version_21)
    assert (version_20 - encoder, version_21 - encoder) == (11_726_850, 11_743_362)


def test_mini_is_a_trunk_and_a_neck(mini: Sam2):
    assert (count(mini.image_encoder.backbone), count(mini.image_encoder.neck)) == (757_792, 62_464)


def test_it_is_built_ready_to_predict_and_of_the_newest_version(mini: Sam2):
    assert not any(module.training for module in mini.modules())
    assert (mini.variant, mini.version, mini.image_size) == ("mini", "2.1", SIDE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vit_b",), "unknown SAM 2 variant 'vit_b'; expected one of tiny, small, base_plus, large, mini"),
        (("mini", 100), "image_size of SAM 2 mini: expected a positive multiple of 32, found 100"),
        (("mini", 0), "image_size of SAM 2 mini: expected a positive multiple of 32, found 0"),
        (("mini", 64, None, "3"), "unknown version '3' of SAM 2; expected one of 2.0, 2.1"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments: tuple, message: str):
    with pytest.raises(ValueError) as error:
        build_sam2(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize("side", [32, 96, 160])
def test_any_side_that_32_divides(side: int):
    sam = build_sam2("mini", side)
    with torch.no_grad():
        features = sam.features(torch.rand(2, 1, side, side))
        masks, iou, *_ = sam.decode(features, boxes=torch.tensor([[1.0, 2, 20, 30], [4, 4, 9, 9]]))
    expected = [(2, 32, side // 4, side // 4), (2, 64, side // 8, side // 8), (2, 256, side // 16, side // 16)]
    assert [tuple(level.shape) for level in features] == expected
    assert masks.shape == (2, 1, side // 4, side // 4)
    assert iou.shape == (2, 1)


def test_pixels_are_imagenets_and_padding_is_zero(mini: Sam2):
    image = torch.full((1, 1, SIDE, SIDE), 0.5)
    image[..., 100:, :] = 0
    pixels = mini.normalise(image)
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor(expected))
    assert not pixels[:, :, 100:].any()


def test_images_of_a_batch_do_not_touch_each_other(mini: Sam2, images: Tensor, features: Features):
    with torch.no_grad():
        for i in range(2):
            for level, alone in zip(features, mini.features(images[i : i + 1]), strict=True):
                torch.testing.assert_close(level[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_boxes_are_embedded_as_by_transformers(mini: Sam2):
    sparse, dense = mini.encode_prompts(3, boxes=BOXES)
    theirs, their_dense = mini.network.prompt_encoder(None, None, BOXES[:, None], None)
    assert torch.equal(sparse, theirs[:, 0])
    assert torch.equal(dense, their_dense)


def test_points_are_embedded_as_by_transformers(mini: Sam2):
    points = torch.tensor([[[3.0, 4], [50, 60]], [[7, 7], [0, 0]], [[127, 0], [0, 127]]])
    labels = torch.tensor([[1, 0], [1, -1], [1, 1]])
    sparse, _ = mini.encode_prompts(3, points=points, labels=labels)
    theirs, _ = mini.network.prompt_encoder(points[:, None], labels[:, None], None, None)
    assert torch.equal(sparse, theirs[:, 0])


def test_a_row_with_nan_is_no_box(mini: Sam2):
    boxes = BOXES.clone()
    boxes[1] = torch.nan
    sparse, _ = mini.encode_prompts(3, boxes=boxes)
    given, _ = mini.encode_prompts(3, boxes=BOXES)
    assert torch.equal(sparse[1], mini.network.prompt_encoder.not_a_point_embed.weight.expand(3, -1))
    assert torch.equal(sparse[[0, 2]], given[[0, 2]])


def test_a_mask_is_a_prompt_at_any_size(mini: Sam2, features: Features):
    small = torch.randn(2, 1, SIDE // 4, SIDE // 4)
    sparse, dense = mini.encode_prompts(2, masks=small)
    assert sparse.shape == (2, 0, 256)
    assert torch.equal(dense, mini.network.prompt_encoder.mask_embed(small))
    large = torch.full((2, 1, SIDE, SIDE), 3.0)
    torch.testing.assert_close(
        mini.encode_prompts(2, masks=large)[1], mini.encode_prompts(2, masks=large[..., ::4, ::4])[1]
    )
    assert not torch.equal(mini.decode(features, masks=small).logits, mini.decode(features, masks=-small).logits)


@pytest.mark.parametrize("multimask", [False, True])
def test_many_prompts_are_decoded_as_one_at_a_time(mini: Sam2, features: Features, multimask: bool):
    with torch.no_grad():
        masks, iou, *_ = mini.decode(features, boxes=BOXES, image=ASKED, multimask=multimask)
        for i, image in enumerate(ASKED):
            one = Features(*(level[image][None] for level in features))
            alone, alone_iou, *_ = mini.decode(one, boxes=BOXES[i : i + 1], multimask=multimask)
            torch.testing.assert_close(masks[i : i + 1], alone, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(iou[i : i + 1], alone_iou, rtol=1e-4, atol=1e-5)
    assert masks.shape == (3, 3 if multimask else 1, SIDE // 4, SIDE // 4)
    assert masks.std((1, 2, 3)).min() > 0
    assert (masks[1] - masks[2]).abs().max() > 1e-3  # two boxes in one image


def test_the_absence_of_memory_is_added_to_the_coarsest_map(mini: Sam2, features: Features):
    sparse, dense = mini.encode_prompts(2, boxes=BOXES[:2])
    absent = mini.network.no_memory_embedding.reshape(1, 256, 1, 1)
    expected, *_ = mini.decode_embedded(features._replace(stride_16=features.stride_16 + absent), sparse, dense)
    without, *_ = mini.decode_embedded(features, sparse, dense)
    found, *_ = mini.decode(features, boxes=BOXES[:2])
    assert torch.equal(found, expected)
    assert not torch.allclose(found, without, atol=1e-3)


def test_grid_positions_are_those_of_transformers(mini: Sam2):
    grid = (torch.arange(SIDE // 16) + 0.5) * 16 / SIDE
    points = torch.cartesian_prod(grid, grid).flip(1)  # (x, y) row by row
    code = mini.network.prompt_encoder.shared_embedding(points)
    assert torch.equal(mini._grid_positions().flatten(2)[0].T, code)


def test_prompts_stay_in_full_precision_under_autocast(mini: Sam2, images: Tensor):
    prompts = {"points": BOXES[:, None, :2] + 3, "labels": torch.ones(3, 1), "boxes": BOXES}
    sparse, _ = mini.encode_prompts(3, **prompts)
    positions = mini._grid_positions()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = mini.encode_prompts(3, **prompts)
        assert [part.dtype for part in half] == [torch.float32, torch.float32]
        assert torch.equal(half[0], sparse)
        assert torch.equal(mini._grid_positions(), positions)
        features = mini.features(images)
        masks, iou, *_ = mini.decode(features, image=ASKED, **prompts)
    assert features.stride_16.dtype == torch.bfloat16
    assert masks.dtype == iou.dtype == torch.float32
    assert masks.isfinite().all()


def test_features_may_come_from_a_cache_of_half_precision(mini: Sam2, features: Features):
    cached = Features(*(level.half() for level in features))
    masks, *_ = mini.decode(cached, boxes=BOXES, image=ASKED)
    expected, *_ = mini.decode(features, boxes=BOXES, image=ASKED)
    assert (masks - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_box_moves_these_weights_outside_the_encoder(mini: Sam2, images: Tensor):
    mini.zero_grad()
    masks, *_ = mini.decode(mini.features(images), boxes=BOXES, image=ASKED)
    masks.sum().backward()
    encoder = set(map(id, mini.image_encoder.parameters()))
    outside = [p for p in mini.parameters() if id(p) not in encoder and p.grad is not None and p.grad.any()]
    assert sum(p.numel() for p in outside) == 3_533_024
    assert all(p.grad is not None for p in mini.image_encoder.backbone.parameters())
    mini.zero_grad()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"points": torch.zeros(2, 1, 2)}, "points and labels go together; give both or neither"),
        ({"labels": torch.zeros(2, 1)}, "points and labels go together; give both or neither"),
        ({"boxes": BOXES}, "boxes: expected one prompt set for each mask (2), found 3"),
        ({"boxes": BOXES[:2], "image": ASKED}, "boxes: expected one prompt set for each mask (3), found 2"),
    ],
)
def test_prompts_that_do_not_fit_are_one_line(mini: Sam2, features: Features, prompts: dict, message: str):
    with pytest.raises(ValueError) as error:
        mini.decode(features, **prompts)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 1, 64, 64), r"Sam2 expects images \(B, 1, 128, 128\), found \(1, 1, 64, 64\)"),
        (torch.full((1, 1, SIDE, SIDE), 255.0), r"Sam2 expects pixels in \[0, 1\], found \[255, 255\]"),
    ],
)
def test_images_that_do_not_fit_are_one_line(mini: Sam2, image: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        mini.embed(image)


class Whole(nn.Module):
    def __init__(self, sam: Sam2) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image: Tensor, boxes: Tensor, asked: Tensor) -> Tensor:
        return self.sam.decode(self.sam.features(image), boxes=boxes, image=asked).logits


def test_torchscript_keeps_batch_and_prompts_free(mini: Sam2, images: Tensor):
    whole = Whole(mini)
    more, asked = torch.cat([images, images.flip(2)]), torch.tensor([3, 0, 0, 2, 1])
    boxes = torch.cat([BOXES, BOXES[:2] + 1])
    with torch.no_grad():
        traced = torch.jit.trace(whole, (images, BOXES, ASKED), check_trace=False)
        torch.testing.assert_close(traced(more, boxes, asked), whole(more, boxes, asked))
