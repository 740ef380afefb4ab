"""JointLoss: Kendall's weighting, fixed weighting, what the tracker reads."""

import math

import pytest
import torch
from test_refined_loss import refinement

from ultrarefiner_monai.losses import DiceCELoss, JointLoss, RefinedLoss

PARTS, TARGET = refinement()
COARSE = DiceCELoss()(PARTS.coarse_logits, TARGET).item()
REFINED = RefinedLoss()(PARTS, TARGET).item()


def test_learned_weighting_by_hand():
    loss = JointLoss()
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.4, -0.7]))
    expected = sum(torch.exp(torch.tensor(-s)) * value / 2 + s / 2 for s, value in ((0.4, COARSE), (-0.7, REFINED)))
    assert loss(PARTS, TARGET).item() == pytest.approx(expected.item(), rel=1e-5)


def test_learned_weights_settle_at_the_logarithm_of_the_losses():
    loss = JointLoss()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        loss(PARTS, TARGET).backward()
        optimizer.step()
    torch.testing.assert_close(loss.log_variances.detach(), torch.tensor([COARSE, REFINED]).log(), atol=1e-3, rtol=0)


def test_fixed_weighting_by_hand():
    loss = JointLoss("fixed", coarse_weight=0.3, refined_weight=2.0)
    assert list(loss.parameters()) == []
    assert loss(PARTS, TARGET).item() == pytest.approx(0.3 * COARSE + 2 * REFINED, rel=1e-5)


def test_weights_are_saved_with_the_loss():
    loss = JointLoss()
    assert [tuple(value.shape) for value in loss.state_dict().values()] == [(2,)]
    assert [name for name, _ in loss.named_parameters()] == ["log_variances"]


def test_learned_weights_are_told_by_name():
    loss = JointLoss()
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.0, math.log(2)]))
    assert loss.learned_weights == {"coarse": (0.0, 0.5), "refined": (pytest.approx(math.log(2)), pytest.approx(0.25))}
    assert JointLoss("fixed").learned_weights == {}


def test_components_hold_both_losses_their_weights_and_parts():
    loss = JointLoss()
    loss(PARTS, TARGET)
    assert loss.components["coarse"].item() == pytest.approx(COARSE)
    assert loss.components["refined"].item() == pytest.approx(REFINED)
    assert loss.components["refined_weight"].item() == 0.5
    assert {"coarse_ce", "coarse_dice", "refined_bce", "refined_dice", "refined_iou"} <= set(loss.components)
    assert not any(value.requires_grad for value in loss.components.values())


def test_gradients_reach_both_stages():
    parts, target = refinement(1)
    JointLoss()(parts, target).backward()
    for value in (parts.coarse_logits, parts.logits, parts.mask_logits, parts.iou):
        assert value.grad.norm() > 0


def test_losses_can_be_chosen():
    loss = JointLoss("fixed", refined_loss=RefinedLoss(iou_weight=0.0), coarse_weight=0.0)
    assert loss(PARTS, TARGET).item() == pytest.approx(RefinedLoss(iou_weight=0.0)(PARTS, TARGET).item())


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="'learned' or 'fixed', found 'auto'"):
        JointLoss("auto")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="need weighting='fixed'"):
        JointLoss(coarse_weight=2.0)
    with pytest.raises(ValueError, match="must be >= 0"):
        JointLoss("fixed", coarse_weight=-1.0)
