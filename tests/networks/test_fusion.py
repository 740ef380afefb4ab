"""Fusion against the formula final = p + g (sigmoid(z) - p)."""

import pytest
import torch

from ultrarefiner_monai.networks.fusion import Fusion

PROB = torch.tensor([0.0, 0.1, 0.5, 0.8, 1.0]).view(1, 1, 1, 5)
LOGITS = torch.tensor([-1.0, 2.0, 0.5, -3.0, 4.0]).view(1, 1, 1, 5)
MODES = ["none", "mean", "uncertainty", "learned", "hybrid"]


def test_none_returns_the_refined_logits():
    assert torch.equal(Fusion("none")(PROB, LOGITS), LOGITS)


@pytest.mark.parametrize("mode", ["mean", "learned"])
def test_mean_and_untrained_gate_average_both_probabilities(mode):
    fused = Fusion(mode)(PROB, LOGITS).sigmoid()
    torch.testing.assert_close(fused, (PROB + LOGITS.sigmoid()) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_uncertainty_replaces_only_what_the_coarse_network_doubts(gamma):
    gate = 1 - (2 * PROB - 1).abs() ** gamma
    fused = Fusion("uncertainty", gamma)(PROB, LOGITS).sigmoid()
    torch.testing.assert_close(fused, PROB + gate * (LOGITS.sigmoid() - PROB), atol=2e-6, rtol=0)
    assert fused[0, 0, 0, 2] == pytest.approx(torch.sigmoid(torch.tensor(0.5)).item(), abs=1e-6)


def test_hybrid_gate_is_the_product():
    torch.testing.assert_close(Fusion("hybrid").gate(PROB, LOGITS.sigmoid()), 0.5 * (1 - (2 * PROB - 1).abs()))


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_and_gate_weights_learn(mode):
    fusion = Fusion(mode).double()
    if fusion.gate_network is not None:
        torch.nn.init.normal_(fusion.gate_network[-1].weight, generator=torch.Generator().manual_seed(0))
    prob = torch.tensor([[0.1, 0.3], [0.6, 0.8]], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    logits = torch.tensor([[-1.0, 2.0], [0.5, -3.0]], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(fusion, (prob, logits))
    fusion(prob, logits).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in fusion.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_certain_masks_give_finite_logits_and_gradients(mode):
    prob = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2).requires_grad_()
    logits = torch.tensor([-100.0, 100.0, -100.0, 100.0]).view(1, 1, 2, 2).requires_grad_()
    fused = Fusion(mode)(prob, logits)
    fused.sum().backward()
    assert fused.isfinite().all()
    assert logits.grad.isfinite().all()
    assert mode == "none" or prob.grad.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_under_autocast_gives_float32(mode):
    with torch.autocast("cpu", torch.bfloat16):
        assert Fusion(mode)(PROB, LOGITS).dtype == torch.float32


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown fusion 'max'; choose one of none, mean"):
        Fusion("max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gamma must be >= 1"):
        Fusion("uncertainty", 0.5)
