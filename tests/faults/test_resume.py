"""A training that is stopped at any step goes on from that very step: all is equal to the last bit."""

import json
import signal

import pytest
import torch
from ignite.engine import Events
from interrupted import in_child, interrupt, losses, record, same, saved, train
from small_releases import TINY

from ultrarefiner_monai.handlers import CheckpointHandler, TrackTraining
from ultrarefiner_monai.handlers.run_guard import RunGuard

POINTS = {  # of a training of two epochs of four steps
    "step 1": [("step", 1)],
    "step 3": [("step", 3)],
    "last step of epoch 1": [("step", 4)],
    "validation of epoch 1": [("validation", 1)],
    "step 6, validation of epoch 2": [("step", 6), ("validation", 2)],
    "killed after step 7": [("kill", 7)],
}


def go_through(stage, folder, points, **keys):
    """Train, interrupted at each of the points in turn; the losses and what was saved."""
    keys |= {"output_dir": str(folder), "checkpoint_interval": 1, "log_model": False}
    trace = folder.parent / f"{folder.name}.trace"
    for number, point in enumerate(points):
        expected = -signal.SIGKILL if point[0] == "kill" else 128 + signal.SIGTERM
        assert train(stage, trace, point, **keys, resume=number > 0) == expected
    assert train(stage, trace, **keys, resume=bool(points)) == 0
    return losses(trace), saved(folder), saved(folder, "model.pt")


def epochs_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "run")} for line in lines]


def compare(stage, tmp_path, points, whole, **keys):
    """A row of the table, and whether all is equal."""
    cut = go_through(stage, tmp_path / "cut", points, **keys)
    difference = max(abs(cut[0].get(step, float("nan")) - loss) for step, loss in whole[0].items())
    equal = cut[0] == whole[0] and same(cut[1]["network"], whole[1]["network"]) and same(cut[1:], whole[1:])
    equal = equal and epochs_of(tmp_path / "cut") == epochs_of(tmp_path / "whole")
    return f"{len(cut[0])} losses compared, largest difference {difference:g}, all equal: {equal}", equal


@pytest.mark.fault(4)
def test_a_stopped_training_goes_on_from_the_very_step(small_release, store, tmp_path):
    keys = {**small_release, **TINY["phase1"], "batch_size": 2, "epochs": 2, "tracking_uri": store}
    keys["weight_average"] = 0.9
    whole = go_through("phase1", tmp_path / "whole", [], **keys)
    assert whole[1]["state"]["average"]["steps"] == 8
    assert len(whole[0]) == 8
    row, equal = compare("phase1", tmp_path, POINTS["step 6, validation of epoch 2"], whole, **keys)
    assert equal, row
    report = json.loads((tmp_path / "cut" / "run.json").read_text())
    card = json.loads((tmp_path / "cut" / "model.json").read_text())
    for document in (report, card):
        assert (document["fold"], document["seed"], document["threads"]) == (0, 42, torch.get_num_threads())


@pytest.mark.slow
@pytest.mark.fault(4)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_stage_goes_on_wherever_it_is_stopped(stage, stage_keys, store, tmp_path, workers):
    keys = {**stage_keys, "epochs": 2, "tracking_uri": store, "workers": workers}
    whole = go_through(stage, tmp_path / "whole", [], **keys)
    rows = []
    for name, points in POINTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "whole").symlink_to(tmp_path / "whole")
        rows.append((name, *compare(stage, tmp_path / name, points, whole, **keys)))
    for name, row, _ in rows:
        print(f"| {stage} | {name} | {workers} workers | {row} |")
    assert all(equal for _, _, equal in rows), rows


@pytest.fixture
def start(make_run, tmp_path):
    """A small training with random noise and dropout, three steps an epoch."""

    def make(folder, resume=False, epochs=3, **arguments):
        run = make_run(epochs)
        run.evaluator.add_event_handler(
            Events.COMPLETED, lambda engine: engine.state.metrics.update(refined_dice=run.trainer.state.epoch / 10)
        )
        tracked = Records()
        tracking = TrackTraining(tracked, run.loss, run.optimizer)
        tracking.attach(run.trainer)
        state = run.state | {"step": run.step}
        handler = CheckpointHandler(
            tmp_path / folder, state, run.network, {}, tallies={"tracking": tracking}, **arguments
        )
        handler.attach(run.trainer, run.evaluator)
        if resume:
            torch.manual_seed(99)
            assert handler.restore(run.trainer)
        return run, handler, tracked

    return make


class Records(list):
    """A tracker that remembers."""

    def start(self):
        pass

    def finish(self, status):
        pass

    def log_metrics(self, metrics, step):
        self.append((step, metrics))


@pytest.mark.fault(4)
@pytest.mark.parametrize("point", [*(("step", step) for step in range(1, 10)), *(("validation", e) for e in (1, 2, 3))])
def test_the_state_of_any_step_is_restored(start, tmp_path, point):
    def first():
        run, _, _ = start("cut")
        record(run.trainer, tmp_path / "trace")
        interrupt(run.trainer, run.evaluator, point)
        run.trainer.run()

    assert in_child(first) == 143
    whole, handler, records = start("whole")
    record(whole.trainer, tmp_path / "whole.trace")
    whole.trainer.run()
    run, again, resumed = start("cut", resume=True)
    record(run.trainer, tmp_path / "trace")
    run.trainer.run()
    assert losses(tmp_path / "trace") == losses(tmp_path / "whole.trace")
    assert same(saved(again.output_dir), saved(handler.output_dir))
    assert resumed == records[-len(resumed) :] and len(resumed) == 4 - (
        point[1] if point[0] != "step" else -(-point[1] // 3)
    )


@pytest.mark.fault(4)
def test_a_kill_loses_no_more_than_the_interval(start, tmp_path):
    def first():
        run, _, _ = start("cut", interval=2)
        interrupt(run.trainer, run.evaluator, ("kill", 5))
        run.trainer.run()

    assert in_child(first) == -signal.SIGKILL
    found = saved(tmp_path / "cut")
    assert (found["epoch"], found["step"]) == (1, 1)  # step 4
    run, _, _ = start("cut", resume=True)
    run.trainer.run()
    whole, _, _ = start("whole")
    whole.trainer.run()
    assert run.losses == whole.losses[4:]


@pytest.mark.fault(21)
def test_a_step_that_does_not_end_is_not_waited_for(make_run, tmp_path, monkeypatch):
    from ultrarefiner_monai.handlers import run_guard

    monkeypatch.setattr(run_guard, "STEP_S", 1)

    def hang():
        run = make_run(1)
        RunGuard(tmp_path).attach(run.trainer)
        run.trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda _: signal.raise_signal(signal.SIGTERM))
        run.trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda _: [signal.pause() for _ in range(9)])
        run.trainer.run()

    assert in_child(hang) == 143


@pytest.mark.parametrize("change", ["seed", "fold", "rate", "threads"])
def test_what_would_make_another_training_of_it_is_refused(make_run, tmp_path, caplog, change):
    from ultrarefiner_monai.handlers import CheckpointError

    card = {"fold": 0, "seed": 42, "threads": torch.get_num_threads()}
    run = make_run(1)
    run.evaluator.add_event_handler(Events.COMPLETED, lambda engine: engine.state.metrics.update(refined_dice=0.5))
    handler = CheckpointHandler(tmp_path, run.state, run.network, card)
    handler.attach(run.trainer, run.evaluator)
    run.trainer.run()
    again = make_run(2)
    if change == "rate":
        again.scheduler.optimizer.param_groups[0]["initial_lr"] = 0.5
        message = r"made with learning rate = 0.02 of optimizer, expected 0.5; change it back, or begin anew"
    else:
        message = rf"made with {change} = {card.get(change)}, expected 7"
        card = card | {change: 7}
    other = CheckpointHandler(tmp_path, again.state, again.network, card)
    if change == "threads":
        card["threads"] += 1
        with caplog.at_level("WARNING"):
            monkeypatched = CheckpointHandler(tmp_path, again.state, again.network, card)
            content = saved(tmp_path)
            torch.save(content | {"card": content["card"] | {"threads": 7}}, tmp_path / "checkpoint.pt")
            assert monkeypatched.restore(again.trainer)
        assert "made with 7 threads, going on with" in caplog.text
        return
    with pytest.raises(CheckpointError, match=message):
        other.restore(again.trainer)
