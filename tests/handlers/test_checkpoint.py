"""Checkpoints: bit-equal resume, best model, damage, refusals."""

import logging
import math
import resource

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.utils.data import DataLoader

from ultrarefiner_monai.bundle.optimizers import cosine, warm_polynomial
from ultrarefiner_monai.handlers import CheckpointError, CheckpointHandler, CompareMasks, load_model, save_model

CARD = {"fold": 3, "training": {"box": True, "points": [1, 1]}}


class InterruptionError(Exception):
    pass


@pytest.fixture
def start(make_run, tmp_path):
    """A run with its checkpoint handler attached as a bundle's `initialize` does."""

    def make(folder="run", epochs=4, resume=False, card=CARD):
        output_dir = tmp_path / folder
        run = make_run(epochs, val_handlers=[CompareMasks(output_dir, ("coarse", "refined"))])
        checkpoint = CheckpointHandler(output_dir, run.state, run.network, card)
        checkpoint.attach(run.trainer, run.evaluator)
        if resume:
            torch.manual_seed(99)  # a new process would have other random states than the old one
            assert checkpoint.restore(run.trainer)
        return run, checkpoint

    return make


def interrupt(run, iteration):
    @run.trainer.on(Events.ITERATION_COMPLETED(once=iteration))
    def stop(engine):
        raise InterruptionError

    with pytest.raises(InterruptionError):
        run.trainer.run()


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(start):
    whole, _ = start("whole")
    whole.trainer.run()
    first, _ = start("cut")
    interrupt(first, iteration=8)  # in the middle of epoch 3 of 4, three steps an epoch
    second, handler = start("cut", resume=True)
    second.trainer.run()
    assert second.losses == whole.losses[6:]
    assert equal(dict(second.network.state_dict()), dict(whole.network.state_dict()))
    for name in ("optimizer", "scheduler", "loss"):
        assert equal(dict(second.state[name].state_dict()), dict(whole.state[name].state_dict())), name
    saved = [
        torch.load(handler.output_dir.parent / name / "checkpoint.pt", weights_only=True) for name in ("whole", "cut")
    ]
    assert equal(*saved)


def test_resuming_keeps_the_best_model_that_was_already_found(start):
    run, handler = start(epochs=2)
    run.trainer.run()
    best = (handler.output_dir / "model.pt").read_bytes()
    state = torch.load(handler.last, weights_only=True)
    torch.save(state | {"best_metric": 2.0, "best_epoch": 1}, handler.last)  # nothing can beat a Dice of 2
    again, resumed = start(epochs=3, resume=True)
    again.trainer.run()
    assert (handler.output_dir / "model.pt").read_bytes() == best
    assert resumed.best_metric == 2.0 and again.evaluator.state.best_metric == 2.0


def test_the_best_model_is_that_of_the_best_epoch(make_run, tmp_path):
    run = make_run(epochs=4)
    scores = iter([0.5, math.nan, 0.7, 0.6])
    weights = []

    @run.evaluator.on(Events.COMPLETED)
    def score(engine):
        engine.state.metrics["refined_dice"] = next(scores)
        weights.append({name: value.clone() for name, value in run.network.state_dict().items()})

    handler = CheckpointHandler(tmp_path / "run", run.state, run.network, CARD)
    handler.attach(run.trainer, run.evaluator)
    run.trainer.run()
    card = load_model(run.network, tmp_path / "run" / "model.pt", expect=CARD)
    assert card["epoch"] == 3 and card["metric"] == {"refined_dice": 0.7}
    assert equal(dict(run.network.state_dict()), weights[2])


def test_an_undefined_first_metric_still_saves_a_model_and_any_number_beats_it(make_run, tmp_path):
    run = make_run(epochs=2)
    scores = iter([math.nan, 0.0])
    run.evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(refined_dice=next(scores)))
    handler = CheckpointHandler(tmp_path / "run", run.state, run.network, CARD)
    handler.attach(run.trainer, run.evaluator)
    run.trainer.run()
    assert (handler.best_epoch, handler.best_metric) == (2, 0.0)


def test_a_metric_that_nobody_computes_is_named(make_run, tmp_path):
    run = make_run(epochs=1)
    CheckpointHandler(tmp_path, run.state, run.network, CARD, metric="refined_dise").attach(run.trainer, run.evaluator)
    with pytest.raises(CheckpointError, match="'refined_dise' is not among"):
        run.trainer.run()


def test_resuming_a_finished_training_trains_nothing(start):
    run, _ = start(epochs=2)
    run.trainer.run()
    again, _ = start(epochs=2, resume=True)
    before = {name: value.clone() for name, value in again.network.state_dict().items()}
    again.trainer.run()
    assert again.losses == [] and again.trainer.state.epoch == 2
    assert equal(dict(again.network.state_dict()), before)
    more, _ = start(epochs=3, resume=True)
    more.trainer.run()
    assert len(more.losses) == 3


def test_nothing_to_resume_is_a_start_from_the_beginning(make_run, tmp_path):
    run = make_run()
    assert CheckpointHandler(tmp_path, run.state, run.network, CARD).restore(run.trainer) is False


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(start, caplog, damage):
    run, handler = start(epochs=3)
    run.trainer.run()
    spoil(handler.last, damage, run.network[0].weight)
    with caplog.at_level(logging.WARNING):
        again, resumed = start(epochs=3, resume=True)
    assert again.trainer.state.epoch == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert str(handler.last) in warning and "falling back" in warning and "\n" not in warning
    again.trainer.run()
    assert again.losses == run.losses[6:]
    assert torch.load(resumed.previous, weights_only=True)["epoch"] == 2


def test_a_damaged_checkpoint_without_a_fallback_is_one_line_with_its_path(start):
    run, handler = start(epochs=1)
    run.trainer.run()
    spoil(handler.last, "truncated", run.network[0].weight)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        handler.restore(run.trainer)
    assert str(handler.last) in str(caught.value) and "\n" not in str(caught.value)


def spoil(path, damage, weight):
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    else:
        content[content.index(weight.detach().numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_every_flipped_bit_of_a_weight_is_noticed(tmp_path):
    """torch.load alone returns altered weights without a word."""
    network = nn.Linear(3, 2)
    path = save_model(network, tmp_path / "model.pt", CARD)
    content = path.read_bytes()
    at = content.index(network.weight.detach().numpy().tobytes())
    path.with_suffix(".json").unlink()
    for offset in range(0, 24, 5):
        path.write_bytes(content[: at + offset] + bytes([content[at + offset] ^ 1]) + content[at + offset + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(nn.Linear(3, 2), path)


def test_other_settings_are_refused_by_name(start):
    run, _ = start(epochs=1)
    run.trainer.run()
    other = {"fold": 3, "training": {"box": False, "points": [1, 1]}}
    with pytest.raises(CheckpointError, match=r"made with training.box = True, expected False"):
        start(epochs=2, resume=True, card=other)


def scheduled(folder, make_schedule, batches, epochs, images=(1, 2, 3)):
    """A trainer of so many iterations an epoch, the rates it used, and its handler."""
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    schedule = make_schedule(optimizer, epochs * batches)
    rates = []

    def step(engine, batch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
    evaluator.data_loader = DataLoader(images)
    trainer.state.max_epochs, trainer.state.epoch_length = epochs, batches
    handler = CheckpointHandler(folder, {"optimizer": optimizer, "lr_scheduler": schedule}, network, CARD)
    handler.attach(trainer, evaluator)
    return trainer, handler, rates


@pytest.mark.parametrize("make_schedule", [cosine, warm_polynomial])
@pytest.mark.parametrize(("before", "after"), [(6, 3), (2, 8), (4, 4)])
def test_a_schedule_goes_on_by_epochs_whatever_their_length(tmp_path, caplog, make_schedule, before, after):
    whole, _, expected = scheduled(tmp_path / "whole", make_schedule, after, epochs=4)
    whole.run(range(after), max_epochs=4)
    first, handler, _ = scheduled(tmp_path / "cut", make_schedule, before, epochs=4)
    first.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda engine: engine.terminate())
    first.run(range(before), max_epochs=4)
    second, handler, rates = scheduled(tmp_path / "cut", make_schedule, after, epochs=4)
    assert handler.restore(second)
    second.run(range(after))
    assert rates == pytest.approx(expected[2 * after :])
    told = [record.getMessage() for record in caplog.records if "iterations an epoch" in record.getMessage()]
    assert len(told) == (before != after)
    assert before == after or f"{before} iterations an epoch until epoch 2, {after} from now on" in told[0]


def test_a_schedule_of_epochs_does_not_care_and_one_that_cannot_follow_is_refused(tmp_path):
    def halving(optimizer, steps):
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)

    first, _, _ = scheduled(tmp_path, halving, 6, epochs=2)
    first.run(range(6), max_epochs=1)
    second, handler, _ = scheduled(tmp_path, halving, 3, epochs=2)
    with pytest.raises(
        CheckpointError, match=r"6 iterations an epoch until epoch 1, 3 from now on, which lr_scheduler"
    ):
        handler.restore(second)
    by_epoch = torch.load(handler.last, weights_only=True)
    by_epoch["state"]["lr_scheduler"]["last_epoch"] = 1
    torch.save(by_epoch, handler.last)
    assert handler.restore(second)


def test_a_best_epoch_of_other_images_is_refused(tmp_path):
    first, _, _ = scheduled(tmp_path, cosine, 2, epochs=2)
    first.run(range(2), max_epochs=1)
    second, handler, _ = scheduled(tmp_path, cosine, 2, epochs=2, images=range(5))
    with pytest.raises(CheckpointError, match="validated on 3 images, expected 5: the best epoch"):
        handler.restore(second)


def test_a_state_of_other_objects_is_refused(start):
    run, handler = start(epochs=1)
    run.trainer.run()
    del run.state["scheduler"]
    handler.state.pop("scheduler")
    with pytest.raises(CheckpointError, match=r"holds the state of \['loss', 'optimizer', 'scheduler'\], expected"):
        handler.restore(run.trainer)


def test_an_older_run_in_the_folder_is_no_fallback_for_a_new_one(start):
    old, _ = start(epochs=3)
    old.trainer.run()
    new, handler = start(epochs=1)
    new.trainer.run()
    assert not handler.previous.exists()


def test_model_round_trip_and_card(tmp_path):
    network = nn.Linear(3, 2)
    path = save_model(nn.DataParallel(network), tmp_path / "deep" / "model.pt", CARD | {"size": (4, 4)})
    assert list(torch.load(path, weights_only=True)) == ["weight", "bias"]  # flat and without a wrapper's prefix
    other = nn.Linear(3, 2)
    card = load_model(other, path, expect={"size": (4, 4), "training": {"box": True}})
    assert torch.equal(other.weight, network.weight) and card["fold"] == 3 and len(card["sha256"]) == 64
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.pt"]


@pytest.mark.parametrize(
    ("expect", "message"),
    [({"fold": 2}, "made with fold = 3, expected 2"), ({"dataset": "BUSI"}, "has no 'dataset'")],
)
def test_a_card_that_differs_is_refused(tmp_path, expect, message):
    path = save_model(nn.Linear(3, 2), tmp_path / "model.pt", CARD)
    with pytest.raises(CheckpointError, match=message):
        load_model(nn.Linear(3, 2), path, expect)


def test_weights_of_another_shape_or_file_are_refused(tmp_path):
    path = save_model(nn.Linear(3, 2), tmp_path / "model.pt", CARD)
    with pytest.raises(CheckpointError, match="does not fit this Linear"):
        load_model(nn.Linear(4, 2), path)
    torch.save(nn.Linear(3, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match="is not the file its card"):
        load_model(nn.Linear(3, 2), path)
    for expect in (None, {"stage": "phase1"}):
        with pytest.raises(CheckpointError, match="does not exist"):
            load_model(nn.Linear(3, 2), tmp_path / "absent.pt", expect)


@pytest.fixture
def full_disk():
    """Files cannot grow beyond 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_what_was_there(tmp_path, full_disk):
    path = save_model(nn.Linear(3, 2), tmp_path / "run" / "model.pt", CARD)
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"cannot write .*model.pt \(0.2 MiB needed\): .*; free disk space"
    ) as caught:
        save_model(nn.Linear(300, 200), path, CARD)
    assert "\n" not in str(caught.value)
    assert before == (path.read_bytes(), path.with_suffix(".json").read_bytes())
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.pt"]
