"""SAM for batches: sizes, pixel scaling, and decoding equal to segment-anything's own modules."""

import pytest
import torch

from ultrarefiner_monai.networks.sam import Sam, build_sam
from ultrarefiner_monai.networks.sam.model import ALL_TOKENS
from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

modeling = import_segment_anything("modeling")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Positions start at zero; give every parameter a value so that a parity test sees it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.2, generator=generator)


@pytest.fixture(scope="module")
def tiny() -> Sam:
    sam = build_sam("tiny")
    randomise(sam)
    return sam


@pytest.mark.parametrize(
    ("variant", "encoder", "total"),
    [
        ("vit_b", 89_670_912, 93_735_472),
        ("vit_l", 308_278_272, 312_342_832),
        ("vit_h", 637_026_048, 641_090_608),
        ("lite_medsam", 5_726_740, 9_791_300),
    ],
)
def test_parameter_counts_are_the_published_ones(variant: str, encoder: int, total: int) -> None:
    with torch.device("meta"):
        sam = build_sam(variant)
    assert count(sam.image_encoder) == encoder
    assert count(sam.prompt_encoder) == 6_220
    assert count(sam.mask_decoder) == 4_058_340
    assert count(sam) == total


@pytest.mark.parametrize(
    ("variant", "image_size", "shape", "candidates"),
    [("tiny", None, (32, 8, 8), 3), ("tiny", 96, (32, 6, 6), 3), ("lite_medsam", 64, (256, 16, 16), 4)],
)
def test_any_size_the_patch_divides(
    variant: str, image_size: int | None, shape: tuple[int, int, int], candidates: int
) -> None:
    sam = build_sam(variant, image_size)
    embedding = sam.embed(torch.rand(1, 1, sam.image_size, sam.image_size))
    assert sam.embedding_shape == shape == embedding.shape[1:]
    mask_logits, iou = sam.decode(embedding, boxes=torch.tensor([[8.0, 8, 30, 40]]))
    assert mask_logits.shape == (1, candidates, 4 * shape[1], 4 * shape[2])
    assert iou.shape == (1, candidates)


def test_vit_b_embeds_at_224() -> None:
    sam = build_sam("vit_b", 224)
    with torch.inference_mode():
        assert sam.embed(torch.rand(1, 1, 224, 224)).shape == (1, 256, 14, 14)


@pytest.mark.parametrize(
    ("variant", "image_size", "message"),
    [
        ("vit_x", None, "unknown SAM variant 'vit_x'; expected one of vit_b, vit_l, vit_h, lite_medsam, tiny"),
        ("tiny", 100, "image_size of SAM tiny: expected a positive multiple of 16, found 100"),
        ("lite_medsam", 0, "image_size of SAM lite_medsam: expected a positive multiple of 4, found 0"),
    ],
)
def test_wrong_variant_or_size_is_named(variant: str, image_size: int | None, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_sam(variant, image_size)
    assert str(error.value) == message


# --- pixel scaling --------------------------------------------------------------------------------------------------


def letterboxed() -> torch.Tensor:
    """Image of 80 x 128 pixels in a 128 x 128 frame, with a black row inside that is no padding."""
    image = torch.zeros(1, 1, 128, 128)
    image[:, :, :80] = torch.rand(80, 128, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    image[:, :, 40] = 0
    return image


def test_normalise_equals_sams_own_preprocessing_once(tiny: Sam) -> None:
    reference = modeling.Sam(tiny.image_encoder, tiny.prompt_encoder, tiny.mask_decoder)
    image = letterboxed()
    expected = reference.preprocess(255 * image[:, :, :80].expand(-1, 3, -1, -1))
    normalised = tiny.normalise(image)
    torch.testing.assert_close(normalised, expected, atol=1e-5, rtol=0)
    assert (normalised[:, :, 80:] == 0).all()
    twice = reference.preprocess(expected)
    assert (twice - normalised).abs().max() > 1
    with pytest.raises(
        ValueError, match=r"expects pixels in \[0, 1\], found \[-2.12, 1.81\]; it normalises them itself"
    ):
        tiny.normalise(normalised[:, :1])


def test_lite_medsam_stretches_the_valid_area_of_each_image() -> None:
    sam = build_sam("lite_medsam", 8)
    image = torch.zeros(2, 1, 8, 8)
    image[0, 0, :4] = 0.2
    image[0, 0, 3, 5] = 0.6
    image[0, 0, 1, 1] = 0.3
    image[1, 0, :, :6] = 0.5  # flat: no range to stretch
    scaled = sam.normalise(image)
    assert scaled.shape == (2, 3, 8, 8)
    assert scaled[0, :, 3, 5].tolist() == [1, 1, 1]
    torch.testing.assert_close(scaled[0, 0, 1, 1], torch.tensor(0.25))
    assert (scaled[0, :, 4:] == 0).all() and (scaled[1] == 0).all()


@pytest.mark.parametrize("variant", ["tiny", "lite_medsam"])
def test_an_all_black_image_stays_finite(variant: str) -> None:
    sam = build_sam(variant, 32)
    assert (sam.normalise(torch.zeros(1, 1, 32, 32)) == 0).all()


def test_wrong_images_are_refused(tiny: Sam) -> None:
    with pytest.raises(ValueError, match=r"images \(B, 1, 128, 128\), found \(2, 3, 128, 128\)"):
        tiny.embed(torch.rand(2, 3, 128, 128))
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], found \[0, 255\]"):
        tiny.embed(torch.arange(256.0).repeat(64).view(1, 1, 128, 128))


# --- decoding -------------------------------------------------------------------------------------------------------

BATCH = 3
POINTS = torch.tensor([[[10.0, 20], [70, 90]], [[64, 64], [1, 127]], [[33, 5], [0, 0]]])
LABELS = torch.tensor([[1, 0], [1, 1], [1, -1]])
BOXES = torch.tensor([[4.0, 8, 90, 100], [30, 30, 70, 80], [0, 0, 127, 127]])
MASKS = torch.randn(BATCH, 1, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("with_boxes", [False, True])
@pytest.mark.parametrize("with_points", [False, True])
def test_one_batched_call_equals_segment_anything_image_by_image(
    tiny: Sam, with_points: bool, with_boxes: bool, with_masks: bool
) -> None:
    prompt_encoder = modeling.PromptEncoder(32, (8, 8), (128, 128), 8)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=32, num_heads=2, mlp_dim=64)
    decoder = modeling.MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32)
    prompt_encoder.load_state_dict(tiny.prompt_encoder.state_dict())
    decoder.load_state_dict(tiny.mask_decoder.state_dict())
    embedding = torch.randn(BATCH, 32, 8, 8, generator=torch.Generator().manual_seed(3))
    points, labels = (POINTS, LABELS) if with_points else (None, None)
    boxes, masks = BOXES if with_boxes else None, MASKS if with_masks else None

    mask_logits, iou = tiny.decode(embedding, points, labels, boxes, masks)

    for i in range(BATCH):
        one = slice(i, i + 1)
        sparse, dense = prompt_encoder(
            points=None if points is None or labels is None else (points[one], labels[one]),
            boxes=None if boxes is None else boxes[one],
            masks=None if masks is None else masks[one],
        )
        expected = decoder(embedding[one], prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True)
        torch.testing.assert_close(mask_logits[one], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(iou[one], expected[1], atol=1e-5, rtol=1e-5)


def test_all_tokens_put_the_single_mask_before_the_three(tiny: Sam) -> None:
    embedding = torch.randn(1, 32, 8, 8)
    three, _ = tiny.decode(embedding, boxes=BOXES[:1])
    four, iou = tiny.decode(embedding, boxes=BOXES[:1], tokens=ALL_TOKENS)
    assert four.shape == (1, 4, 32, 32) and iou.shape == (1, 4)
    torch.testing.assert_close(four[:, 1:], three)


def test_gradients_reach_every_prompt_and_the_embedding(tiny: Sam) -> None:
    points, boxes = POINTS.clone().requires_grad_(), BOXES.clone().requires_grad_()
    masks = torch.randn(BATCH, 1, 100, 100, requires_grad=True)  # any size
    embedding = torch.randn(BATCH, 32, 8, 8, requires_grad=True)
    mask_logits, iou = tiny.decode(embedding, points, LABELS, boxes, masks)
    gradients = torch.autograd.grad(mask_logits.mean() + iou.mean(), [points, boxes, masks, embedding])
    for gradient in gradients:
        assert gradient.isfinite().all() and gradient.flatten(1).norm(dim=1).min() > 0
    assert (gradients[0][2, 1] == 0).all()  # label -1: no point, no gradient


def test_bfloat16_keeps_the_prompt_coordinates_exact(tiny: Sam) -> None:
    """Regression: under autocast, coordinates rounded to 8 bits move the prompt's sines."""
    expected, _ = tiny.encode_prompts(BATCH, POINTS, LABELS, BOXES, None)
    with torch.autocast("cpu", torch.bfloat16):
        sparse, _ = tiny.encode_prompts(BATCH, POINTS, LABELS, BOXES, None)
        mask_logits, iou = tiny.decode(torch.randn(BATCH, 32, 8, 8), POINTS, LABELS, BOXES, MASKS)
    torch.testing.assert_close(sparse, expected, atol=0, rtol=0)
    assert mask_logits.dtype == iou.dtype == torch.float32


def test_a_half_precision_embedding_from_a_cache_decodes(tiny: Sam) -> None:
    embedding = torch.randn(BATCH, 32, 8, 8).half()
    torch.testing.assert_close(tiny.decode(embedding, boxes=BOXES), tiny.decode(embedding.float(), boxes=BOXES))


def test_prompts_that_do_not_fit_the_batch_are_named(tiny: Sam) -> None:
    embedding = torch.randn(2, 32, 8, 8)
    with pytest.raises(ValueError, match=r"boxes: expected one prompt set per image \(2\), found 3"):
        tiny.decode(embedding, boxes=BOXES)
    with pytest.raises(ValueError, match="points and labels go together"):
        tiny.decode(embedding, points=POINTS[:2])
