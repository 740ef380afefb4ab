"""Loss of AutoMedSAM: each term by hand, the teacher, blank images."""

import pytest
import torch
from torch.nn import functional as F

from ultrarefiner_monai.losses import ClassMaskLoss
from ultrarefiner_monai.losses.class_masks import mask_boxes
from ultrarefiner_monai.losses.dice import dice_loss
from ultrarefiner_monai.networks import AutoMedSam, build_sam
from ultrarefiner_monai.networks.automedsam import ClassMasks
from ultrarefiner_monai.networks.prompts.class_prompts import PromptEmbeddings


def made(requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 2, 8, 8), (2, 2), (2, 2, 2, 4), (2, 2, 4, 2, 2))
    parts = ClassMasks(*(torch.randn(shape, generator=generator).requires_grad_(requires_grad) for shape in shapes))
    target = torch.zeros(2, 1, 8, 8)
    target[0, :, 2:5, 1:7] = 2
    target[1, :, 3:4, 3:4] = 1
    return parts, target


PARTS, TARGET = made()


def test_terms_by_hand():
    loss = ClassMaskLoss(weighting="fixed")
    total = loss(PARTS, TARGET)
    label = TARGET[:, 0].long()
    pixel = sum(F.binary_cross_entropy_with_logits(PARTS.logits[:, k], (label == k + 1).float()) for k in (0, 1)) / 2
    own = torch.stack([PARTS.logits[0, 1], PARTS.logits[1, 0]])[:, None]
    region = (dice_loss(PARTS.lesion, TARGET > 0) + dice_loss(own, TARGET > 0)).mean()
    probability = torch.cat([torch.zeros(2, 1, 8, 8), PARTS.logits], 1).softmax(1)
    distribution = -probability.gather(1, label[:, None]).log().mean()
    for name, expected in (("pixel", pixel), ("region", region), ("distribution", distribution)):
        assert loss.components[name].item() == pytest.approx(expected.item(), rel=1e-5)
    assert total.item() == pytest.approx((pixel + region + distribution).item(), rel=1e-5)


def test_transfer_compares_the_present_class_with_the_teacher():
    taught = PromptEmbeddings(
        torch.stack([PARTS.sparse[0, 1], PARTS.sparse[1, 0]]), torch.stack([PARTS.dense[0, 1], PARTS.dense[1, 0]])
    )
    asked = []

    def teacher(boxes, masks):
        asked.append((boxes, masks))
        return taught

    loss = ClassMaskLoss(teacher, weighting="fixed")
    loss(PARTS, TARGET)
    assert loss.components["transfer"].item() == 0.0
    assert asked[0][0].tolist() == [[1, 2, 6, 4], [3, 3, 3, 3]] and torch.equal(asked[0][1], TARGET > 0)
    loss = ClassMaskLoss(lambda boxes, masks: PromptEmbeddings(taught.sparse + 2, taught.dense + 1), weighting="fixed")
    loss(PARTS, TARGET)
    assert loss.components["transfer"].item() == pytest.approx(4.1, rel=1e-5)


def test_the_images_class_is_that_of_its_lesion_by_hand():
    """The mean over the lesion of p_k in float64, whose share of the sum over the classes is the class's probability."""
    loss = ClassMaskLoss(image_class=2.0, weighting="fixed")
    loss(PARTS, TARGET)
    probability = PARTS.with_background.double().softmax(1)
    lesion = TARGET[:, 0] > 0
    mean = torch.stack([probability[i, 1:, lesion[i]].mean(1) for i in (0, 1)])
    share = mean / mean.sum(1, keepdim=True)
    expected = -2 * (share[0, 1].log() + share[1, 0].log()) / 2
    assert loss.components["class"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("certain", [200.0, -200.0])
def test_the_images_class_has_a_gradient_however_certain_the_network_is(certain):
    """exp(-200) is no number of float32; its logarithm is."""
    logits = torch.tensor([certain, -certain]).view(1, 2, 1, 1).expand(1, 2, 4, 4).clone().requires_grad_()
    parts = ClassMasks(logits, PARTS.iou[:1], PARTS.sparse[:1], PARTS.dense[:1])
    loss = ClassMaskLoss(image_class=1.0, weighting="fixed")
    loss(parts, torch.ones(1, 1, 4, 4)).backward()
    assert loss.components["class"].item() == pytest.approx(max(0.0, -2 * certain), abs=1e-4)
    assert logits.grad.isfinite().all()


def test_without_a_lesion_an_image_teaches_no_class():
    parts, target = made(requires_grad=True)
    target[:] = 0
    loss = ClassMaskLoss(image_class=1.0, weighting="fixed")
    loss(parts, target).backward()
    assert loss.components["class"].item() == 0.0 and parts.logits.grad.isfinite().all()


def test_negative_factors_are_refused():
    with pytest.raises(ValueError, match="image_class must be >= 0, found -1"):
        ClassMaskLoss(image_class=-1)


def test_a_blank_image_has_no_transfer_and_a_finite_loss():
    parts, target = made(requires_grad=True)
    target[1] = 0
    loss = ClassMaskLoss(lambda boxes, masks: PromptEmbeddings(parts.sparse[:, 1] + 1, parts.dense[:, 1]))
    total = loss(parts, target)
    assert loss.components["transfer"].item() == pytest.approx(0.5, rel=1e-5)  # 1 of one image of two
    total.backward()
    assert all(value.grad.isfinite().all() for value in (parts.logits, parts.sparse, parts.dense))


def test_switched_off_transfer_changes_nothing_else():
    without, with_it = (
        ClassMaskLoss(weighting="fixed"),
        ClassMaskLoss(lambda boxes, masks: PARTS_OF_CLASS_1, weighting="fixed"),
    )
    difference = with_it(PARTS, TARGET) - without(PARTS, TARGET)
    assert difference.item() == pytest.approx(with_it.components["transfer"].item(), rel=1e-4)
    assert "transfer" not in without.components


PARTS_OF_CLASS_1 = PromptEmbeddings(PARTS.sparse[:, 0], PARTS.dense[:, 0])


def test_no_gradient_in_the_teacher():
    network = AutoMedSam(build_sam("tiny", 64), ("benign", "malignant"))
    network.sam.prompt_encoder.requires_grad_(True)
    taught = network.teach(torch.tensor([[1.0, 2.0, 30.0, 40.0]]), torch.ones(1, 1, 64, 64))
    assert not taught.sparse.requires_grad and not taught.dense.requires_grad


def test_boxes_of_masks():
    masks = torch.zeros(2, 1, 5, 9)
    masks[0, 0, 1, 7] = masks[0, 0, 3, 2] = 1
    assert mask_boxes(masks.bool()).tolist() == [[2, 1, 7, 3], [0, 0, 0, 0]]


def test_wrong_targets_are_refused():
    with pytest.raises(ValueError, match=r"target must be in 0..2, found 3"):
        ClassMaskLoss()(PARTS, TARGET + 1)
    with pytest.raises(ValueError, match=r"target must be \(2, 1, 8, 8\), found \(2, 8, 8\)"):
        ClassMaskLoss()(PARTS, TARGET[:, 0])
