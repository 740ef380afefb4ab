"""The moving average of the weights: by hand, in a validation, in the saved model, and over an interruption."""

import os
import signal

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from ultrarefiner_monai.handlers import CheckpointHandler, CompareMasks, load_model
from ultrarefiner_monai.handlers.steps.weight_average import WeightAverage

OUTPUTS = ("coarse", "refined")


@pytest.fixture
def start(make_run, tmp_path):
    """A run of two epochs of three steps whose weights are averaged, with its checkpoints, as a bundle's `initialize` does it."""

    def make(folder, decay=0.9, resume=False):
        run = make_run(2, val_handlers=[CompareMasks(tmp_path / folder, OUTPUTS)])
        average = WeightAverage(run.network, run.optimizer, decay)
        average.attach(run.trainer, run.evaluator)
        checkpoints = CheckpointHandler(tmp_path / folder, {**run.state, "average": average}, run.network, {})
        checkpoints.attach(run.trainer, run.evaluator)
        if resume:
            assert checkpoints.restore(run.trainer)
        return run, average, tmp_path / folder

    return make


def test_the_average_of_a_weight_by_hand():
    """Weights 1, 2, 3 after the steps, from 0: d = 2/11, then 3/12, then 0.3 where 4/13 were more."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = WeightAverage(network, torch.optim.SGD(network.parameters(), lr=1.0), decay=0.3)
    trainer = Engine(lambda _, batch: network.weight.data.add_(1))
    average.attach(trainer, Engine(lambda *_: None))
    trainer.run([0, 0, 0])
    first = 9 / 11
    second = first * 3 / 12 + 2 * 9 / 12
    assert average.average["weight"].item() == pytest.approx(second * 0.3 + 3 * 0.7)
    assert network.weight.item() == 3


def test_running_statistics_are_averaged_and_what_nothing_moves_is_not():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    average = WeightAverage(network, torch.optim.SGD(network[0].parameters(), lr=1.0), decay=0.9)
    assert set(average.average) == {"0.weight", "0.bias", "1.running_mean", "1.running_var"}


def test_a_validation_and_the_saved_model_see_the_average_and_the_training_its_own_weights(start):
    run, average, folder = start("run")
    seen = []
    run.evaluator.add_event_handler(Events.COMPLETED, lambda _: seen.append(run.network[0].weight.detach().clone()))
    own = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: own.append(run.network[0].weight.detach().clone())
    )
    run.trainer.run()
    assert torch.equal(seen[-1], average.average["0.weight"])
    assert torch.equal(run.network[0].weight, own[-1]) and not torch.equal(own[-1], seen[-1])
    card = load_model(run.network, folder / "model.pt")
    assert torch.equal(run.network[0].weight, seen[card["epoch"] - 1])


def test_a_training_that_is_stopped_in_its_validation_keeps_its_own_weights_and_goes_on_to_the_last_bit(start):
    whole, average, _ = start("whole")
    whole.trainer.run()
    cut, _, folder = start("cut")
    own = []
    cut.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: own.append(cut.network[0].weight.detach().clone())
    )

    @cut.evaluator.on(Events.ITERATION_STARTED(once=1))
    def ask_for_an_end(_):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        cut.trainer.run()
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 3 and torch.equal(saved["network"]["0.weight"], own[-1])
    assert not torch.equal(saved["state"]["average"]["average"]["0.weight"], own[-1])
    again, resumed, _ = start("cut", resume=True)
    again.trainer.run()
    assert torch.equal(again.network[0].weight, whole.network[0].weight)
    assert all(torch.equal(value, average.average[name]) for name, value in resumed.average.items())


def test_the_average_of_another_network_is_refused():
    network, other = nn.Linear(2, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD([*network.parameters(), *other.parameters()], lr=1.0)
    with pytest.raises(RuntimeError, match="of other weights"):
        WeightAverage(network, optimizer, 0.9).load_state_dict(WeightAverage(other, optimizer, 0.9).state_dict())
