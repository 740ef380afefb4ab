"""What phase 3 adds to a training: a coarse network at rest, gradients by path, a warning where coarse masks get worse."""

import json
import logging

import pytest
import torch
from fake_sam import FakeSam
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from ultrarefiner_monai.handlers import Anchor, CoarseFalls, CoarseRests, GradientPaths
from ultrarefiner_monai.handlers.steps import TrainingStep
from ultrarefiner_monai.losses import JointLoss
from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, UltraRefiner

OFF = {"positive_points": 0, "negative_points": 0, "box": False, "mask": False}
STEPS = 3  # an epoch


class Coarse(nn.Module):
    """Dark is lesion; with a BatchNorm, whose statistics move in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.constant_(self.layer.weight, -12 / 9)
        nn.init.constant_(self.layer.bias, 6.0)
        self.normalised = nn.BatchNorm2d(1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image) + 0 * self.normalised(image)


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], epoch: int) -> None:
        self.epochs[epoch] = metrics


def batch() -> dict[str, Tensor]:
    image = torch.ones(2, 1, 32, 32) * 0.9
    image[..., 8:16, 10:21] = 0.1
    return {"image": image, "label": (image < 0.5).float()}


def training(network: UltraRefiner, handlers: list, epochs: int = 1, batches: list | None = None) -> SupervisedTrainer:
    """A trainer of `STEPS` equal batches an epoch, or of `batches`, as phase 3's configuration has it."""
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=batches or [batch()] * STEPS,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1e-4),
        loss_function=JointLoss("fixed"),
        prepare_batch=lambda data, *_: (data["image"], data["label"], (), {"return_parts": True}),
        inferer=lambda inputs, network, **more: network(inputs, **more),
        iteration_update=TrainingStep(non_finite="skip"),
        train_handlers=handlers,
        decollate=False,
    )


def network(fusion: str = "mean", **settings) -> UltraRefiner:
    torch.manual_seed(0)
    return UltraRefiner(Coarse(), SamRefiner(FakeSam(), PromptGenerator(**settings), fusion=fusion))


def paths(joint: UltraRefiner) -> dict[str, float]:
    """What one epoch logs."""
    told = Told()
    training(joint, [GradientPaths(told)]).run()
    return told.epochs[1]


@pytest.mark.parametrize(
    ("name", "prompt"), [("points", {"positive_points": 1}), ("box", {"box": True}), ("mask", {"mask": True})]
)
def test_the_gradient_of_one_path_is_all_that_reaches_the_coarse_network(name, prompt):
    """One kind of prompts and no coarse mask in the output: what autograd gives for the whole, in the last step."""
    joint = network("none", **{**OFF, **prompt})
    found, seen = [], batch()

    def whole(_: Engine) -> None:
        parts = joint(seen["image"], return_parts=True)
        loss = JointLoss().refined_loss(parts, seen["label"])
        found.append(torch.autograd.grad(loss, parts.coarse_logits)[0].norm().item())

    told = Told()
    trainer = training(joint, [GradientPaths(told)])
    trainer.add_event_handler(Events.ITERATION_STARTED, whole)
    trainer.run()
    assert told.epochs[1][f"train_gradient_{name}"] == pytest.approx(found[-1], rel=1e-4)
    assert found[-1] > 0
    assert told.epochs[1]["train_gradient_fusion"] == pytest.approx(0, abs=1e-5 * found[-1])
    assert told.epochs[1].keys() == {f"train_gradient_{one}" for one in ("coarse", name, "fusion")}


def test_a_cut_path_is_told_as_zero_and_the_fused_mask_still_reaches_the_coarse_network():
    joint = network()
    joint.prompt_gradient_scale = 0.0
    told = paths(joint)
    assert [told[f"train_gradient_{name}"] for name in ("points", "box", "mask")] == [0, 0, 0]
    assert told["train_gradient_fusion"] > 0
    assert told["train_gradient_coarse"] > 0


def test_a_last_batch_that_is_left_out_tells_no_gradients():
    told, damaged = Told(), batch()
    damaged["image"] = damaged["image"] * torch.nan
    training(network(), [GradientPaths(told)], batches=[batch(), damaged]).run()
    assert told.epochs == {}


def test_looking_at_gradients_changes_no_weight():
    watched, alone = network(), network()
    training(watched, [GradientPaths(Told())]).run()
    training(alone, []).run()
    assert all(torch.equal(*pair) for pair in zip(watched.parameters(), alone.parameters(), strict=True))


def test_the_anchor_by_hand():
    """A weight that a loss of gradient 2 has moved from 1 to 0.8 at a rate of 0.1 is pulled back with 3 * (0.8 - 1)."""
    held, free = nn.Linear(1, 1, bias=False), nn.Parameter(torch.ones(1))
    nn.init.ones_(held.weight)
    optimizer = torch.optim.SGD([held.weight, free], lr=0.1)
    Anchor(held, optimizer, 3.0).attach(Engine(lambda *_: None))
    for expected in (0.8, 0.8 - 0.1 * (2 - 0.6)):
        optimizer.zero_grad()
        (2 * held.weight.sum()).backward()
        optimizer.step()
        assert held.weight.item() == pytest.approx(expected)
    optimizer.zero_grad()
    optimizer.step()  # without a gradient, as at rest
    assert held.weight.item() == pytest.approx(expected) and free.item() == 1


def test_an_anchor_of_no_weight_holds_nothing():
    assert Anchor(nn.Linear(1, 1), torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), 0.0).held == []


def test_a_coarse_network_at_rest_keeps_weights_and_statistics_and_learns_afterwards():
    joint, after, modes = network(), {}, {}
    first = {name: value.clone() for name, value in joint.coarse.state_dict().items()}
    refiner = joint.refiner.sam.mask_decoder.weight.detach().clone()
    told = Told()
    trainer = training(joint, [CoarseRests(joint, 2), GradientPaths(told)], epochs=3)

    @trainer.on(Events.ITERATION_COMPLETED)
    def _(engine: Engine) -> None:
        modes[engine.state.epoch] = joint.coarse.training

    @trainer.on(Events.EPOCH_COMPLETED)
    def _(engine: Engine) -> None:
        same = [torch.equal(first[name], value) for name, value in joint.coarse.state_dict().items()]
        after[engine.state.epoch] = (all(same), torch.equal(refiner, joint.refiner.sam.mask_decoder.weight))

    trainer.run()
    assert after == {1: (True, False), 2: (True, False), 3: (False, False)}
    assert modes == {1: False, 2: False, 3: True}
    assert told.epochs.keys() == {3}  # at rest nothing reaches it


@pytest.mark.parametrize(("found", "warned"), [(0.79, True), (0.81, False), (0.7911, False)])
def test_coarse_masks_that_get_worse_are_told(found, warned, tmp_path, caplog):
    model = tmp_path / "model.pt"
    model.with_suffix(".json").write_text(json.dumps({"metric": {"coarse_dice": 0.811}}))
    evaluator = Engine(lambda *_: None)
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: engine.state.metrics.update(coarse_dice=found))
    CoarseFalls(evaluator, str(model)).attach(Engine(lambda *_: None))
    with caplog.at_level(logging.WARNING):
        evaluator.run([0])
    assert [record.message.startswith("the coarse masks have a Dice of") for record in caplog.records] == [
        True
    ] * warned


def test_without_a_card_nothing_is_compared(caplog):
    evaluator = Engine(lambda *_: None)
    CoarseFalls(evaluator, None).attach(Engine(lambda *_: None))
    evaluator.run([0])
    assert not caplog.records
