"""Nothing that is not finite is learnt from or saved, and the images are named."""

import json
import math

import pytest
import torch
from ignite.engine import Events
from interrupted import same, saved
from stage_trainings import run_command
from torch import nn

from ultrarefiner_monai.handlers import CheckpointError, CheckpointHandler, TrackTraining, load_model, save_model
from ultrarefiner_monai.handlers.steps import NonFiniteError, TrainingStep
from ultrarefiner_monai.models.weights import not_finite
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.keys import configuration


@pytest.fixture
def start(make_run, items, tmp_path):
    """A small training, three steps an epoch, and its checkpoints."""

    def make(epochs=2, **arguments):
        run = make_run(epochs, **arguments)
        run.evaluator.add_event_handler(Events.COMPLETED, lambda engine: engine.state.metrics.update(refined_dice=0.5))
        handler = CheckpointHandler(tmp_path / "run", run.state | {"step": run.step}, run.network, {})
        handler.attach(run.trainer, run.evaluator)
        return run, handler

    return make


def plant(items, what):
    """Spoil one image or its mask."""
    items[3][what] = items[3][what].copy()
    items[3][what][0, 2, 2] = math.nan


@pytest.mark.fault(6)
@pytest.mark.parametrize("what", ["image", "label"])
def test_a_spoilt_image_is_named_before_anything_is_learnt_from_it(start, items, what):
    plant(items, what)
    run, handler = start()
    with pytest.raises(NonFiniteError, match=r"epoch 1, step \d: the input is not finite, images case3; ") as caught:
        run.trainer.run()
    assert "\n" not in str(caught.value) and not handler.last.exists()
    assert not not_finite(run.network.state_dict())


@pytest.mark.fault(6)
def test_a_loss_or_a_gradient_is_named_and_the_last_checkpoint_goes_on(start):
    run, handler = start()
    spoil = run.trainer.add_event_handler(
        Events.ITERATION_STARTED(once=5), lambda _: run.network[0].weight.data.mul_(1e38)
    )
    with pytest.raises(
        NonFiniteError, match=r"epoch 2, step 2: the (loss is|gradients are) not finite, images case\d, case\d;"
    ):
        run.trainer.run()
    spoil.remove()
    whole = saved(handler.output_dir)
    assert whole["epoch"] == 1 and not not_finite(whole)
    again, other = start()
    assert other.restore(again.trainer)
    again.trainer.run()
    assert saved(other.output_dir)["epoch"] == 2


@pytest.mark.fault(6)
def test_batches_can_be_left_out(start, items, caplog):
    before = {}
    plant(items, "image")
    run, handler = start(epochs=1, step=TrainingStep("skip"))
    norm = nn.BatchNorm2d(1)
    run.network.insert(0, norm)
    records = []
    tracker = type("Tracker", (), {"start": lambda s: 0, "finish": lambda s, _: 0})()
    tracker.log_metrics = lambda metrics, step: records.append(metrics)
    TrackTraining(tracker, run.loss, run.optimizer).attach(run.trainer)

    @run.trainer.on(Events.ITERATION_STARTED)
    def remember(engine):
        before.update({name: value.clone() for name, value in run.network.state_dict().items()})
        before["state"] = str(run.optimizer.state_dict())

    @run.trainer.on(Events.ITERATION_COMPLETED)
    def compare(engine):
        if "case3" in engine.state.batch["id"]:
            state = before.pop("state")
            assert state == str(run.optimizer.state_dict())
            assert same(before, dict(run.network.state_dict())) and engine.state.output["skipped"]

    run.trainer.run()
    assert (
        run.step.skipped == 1
        and "the input is not finite, images case3; the batch is left out (1 so far)" in caplog.text
    )
    assert not not_finite(saved(handler.output_dir)) and saved(handler.output_dir)["state"]["step"]["skipped"] == 1
    assert records[0]["skipped_batches"] == 1 and math.isfinite(records[0]["train_loss"])
    assert run.scheduler.last_epoch == 1  # the schedule counts the epoch as any other


@pytest.mark.fault(6)
def test_a_whole_epoch_of_them_is_the_end(start, items):
    for item in items:
        item["image"] = item["image"] * math.nan
    run, _ = start(step=TrainingStep("skip"))
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 3: .*the last 3 batches, a whole epoch, were left out"):
        run.trainer.run()
    assert run.step.skipped == 3


@pytest.mark.fault(6)
def test_a_scaler_that_looks_for_its_scale_is_no_fault(start):
    """Its first scales make gradients infinite; it leaves these updates out itself."""
    run, _ = start(epochs=1)

    class Scaler:
        scale_, steps = 1e38, 0

        def scale(self, loss):
            return loss * self.scale_ * self.scale_

        def step(self, optimizer):
            self.steps += 1

        def update(self):
            self.scale_ = 1.0

        def state_dict(self):
            return {}

    # MONAI sets it when a run begins.
    run.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", Scaler()))
    run.trainer.run()
    assert run.trainer.scaler.steps == 3 and run.step.skipped == 0


@pytest.mark.fault(6)
def test_weights_that_overflow_are_not_saved(start, tmp_path):
    run, handler = start(epochs=1)
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=3), lambda _: run.network[0].weight.data.fill_(math.inf)
    )
    with pytest.raises(
        CheckpointError, match=r"model.pt: not written, since 0.weight is not finite; lower the learning rate"
    ):
        run.trainer.run()
    assert not handler.last.exists() and not list((tmp_path / "run").glob("*.pt"))


@pytest.mark.fault(6)
@pytest.mark.parametrize("where", ["network", "state"])
def test_a_poisoned_checkpoint_of_an_earlier_version_is_refused(start, caplog, where):
    run, handler = start()
    run.trainer.run()
    content = saved(handler.output_dir)
    if where == "network":
        content["network"]["0.bias"][1] = math.nan
    else:
        content["state"]["optimizer"]["state"][0]["exp_avg"][0] = math.inf
    torch.save(content, handler.last)
    again, other = start(epochs=3)
    assert other.restore(again.trainer) and again.trainer.state.epoch == 1
    assert "is not finite, so that nothing can be learnt from there; begin anew; falling back" in caplog.text
    torch.save(content, handler.previous)
    handler.last.unlink(missing_ok=True)
    with pytest.raises(
        CheckpointError, match=r"checkpoint.previous.pt: (network.0.bias|state.optimizer.*) is not finite"
    ):
        other.restore(again.trainer)


def test_a_poisoned_model_is_not_used(tmp_path):
    network = nn.Linear(2, 1)
    path = save_model(network, tmp_path / "model.pt", {})
    path.with_suffix(".json").unlink()
    torch.save({"weight": torch.full((1, 2), math.nan), "bias": torch.zeros(1)}, path)
    with pytest.raises(
        CheckpointError, match=r"model.pt: weight is not finite, so that it predicts nothing; train it again"
    ):
        load_model(network, path)


@pytest.mark.slow
@pytest.mark.fault(6)
def test_a_rate_that_is_far_too_high_ends_every_stage(stage, stage_keys, tmp_path):
    own = configuration(find_stage(stage)[1])
    rates = {key: 1e30 for key in own if key.endswith("_rate") and key != "cache_rate"}
    done = run_command(stage, tmp_path, **stage_keys, **rates)
    (line,) = done.stderr.splitlines()[-1:]
    assert done.returncode == 1 and "not finite, images" in line, done.stderr[-1000:]
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["status"] == "failed" and not list((tmp_path / "out").glob("*.pt"))
    print(f"{stage}: {line}")
