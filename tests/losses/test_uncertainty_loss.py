"""Learned weights of losses: closed values, their optimum, what is told of them."""

import math

import pytest
import torch

from ultrarefiner_monai.losses import UncertaintyLoss

LOSSES = torch.tensor([0.5, 1.0, 3.0, 0.0])
TERMS = ("a", "b", "c", "d")


def test_log1p_at_the_start_by_hand():
    loss = UncertaintyLoss(TERMS, "log1p")
    assert loss.weigh(list(LOSSES)).item() == pytest.approx(4.5 / 2 + 4 * math.log(2))
    assert loss.components["c"].item() == 3.0 and loss.components["c_weight"].item() == 0.5


@pytest.mark.parametrize(("weighting", "optimum"), [("log1p", [0.640388, 1.0, 2.186141]), ("kendall", [0.5, 1.0, 3.0])])
def test_variances_settle_at_the_optimum(weighting, optimum):
    loss = UncertaintyLoss(TERMS[:3], weighting)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        loss.weigh(list(LOSSES[:3])).backward()
        optimizer.step()
    torch.testing.assert_close(loss.log_variances.exp().detach(), torch.tensor(optimum), atol=1e-3, rtol=0)
    if weighting == "log1p":
        expected = [(value + math.sqrt(value**2 + 8 * value)) / 4 for value in (0.5, 1.0, 3.0)]
        assert optimum == pytest.approx(expected, abs=1e-6)


def test_log1p_is_never_negative_where_a_loss_vanishes():
    loss = UncertaintyLoss(("only",), "log1p")
    with torch.no_grad():
        loss.log_variances.fill_(-30)
    assert 0 <= loss.weigh([torch.tensor(0.0)]).item() < 1e-9


def test_fixed_weights_and_what_is_learned_by_name():
    fixed = UncertaintyLoss(("a", "b"), "fixed", {"b": 0.25})
    assert fixed.weigh([torch.tensor(2.0), torch.tensor(4.0)]).item() == 3.0
    assert fixed.learned_weights == {} and not list(fixed.parameters())
    assert UncertaintyLoss(("a", "b"), "log1p").learned_weights == {"a": (0.0, 0.5), "b": (0.0, 0.5)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "best"), "weighting must be one of log1p, kendall, fixed, found 'best'"),
        (("a", "log1p", {"a": 2.0}), "weights of a need weighting='fixed'"),
        (("a", "fixed", {"z": 2.0}), "unknown losses z; expected some of a"),
        (("a", "fixed", {"a": -1.0}), "must be >= 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UncertaintyLoss(*arguments)
