"""One process a folder; SIGINT and SIGTERM end a training cleanly and resumably."""

import gc
import math
import os
import signal
import threading

import pytest
import torch
from forking import hang, wait_for
from ignite.engine import Engine, Events

from ultrarefiner_monai.handlers import CheckpointError, CheckpointHandler, CompareMasks
from ultrarefiner_monai.handlers import run_guard as guard
from ultrarefiner_monai.handlers.failure import on_failure
from ultrarefiner_monai.handlers.run_guard import RunGuard, exit_codes


def guarded(folder, work=lambda engine, batch: None):
    trainer = Engine(work)
    RunGuard(folder).attach(trainer)
    return trainer


def test_the_folder_is_locked_before_anything_is_written(tmp_path, fork):
    """A tracker that starts with the trainer must not replace the files of the run that has the folder."""

    def hold():
        _kept = guarded(tmp_path)
        (tmp_path / "held").touch()
        hang()

    child = fork(hold)
    wait_for(tmp_path / "held", child)
    with pytest.raises(CheckpointError, match="in use by another training"):
        RunGuard(tmp_path).attach(Engine(lambda engine, batch: None))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_workflow_dropped_before_it_ran_does_not_keep_the_folder(tmp_path):
    gc.disable()
    try:
        dropped = guarded(tmp_path)
        dropped.state.trainer = (
            dropped  # as engines and handlers of a bundle do: counting references does not free them
        )
        del dropped
        guarded(tmp_path).run([0])
    finally:
        gc.enable()


@pytest.mark.fault(21)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_exits_with_the_shells_code_and_resumes(make_run, tmp_path, fork, number, code):
    def make(folder):
        run = make_run(3, val_handlers=[CompareMasks(tmp_path / folder, ("coarse", "refined"))])
        checkpoint = CheckpointHandler(tmp_path / folder, run.state, run.network, {})
        checkpoint.attach(run.trainer, run.evaluator)
        return run, checkpoint

    def train():
        run, _ = make("cut")

        @run.trainer.on(Events.ITERATION_COMPLETED(once=5))
        def wait(engine):
            (tmp_path / "running").touch()
            hang()

        run.trainer.run()

    child = fork(train)
    wait_for(tmp_path / "running", child)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code

    whole, _ = make("whole")
    whole.trainer.run()
    run, checkpoint = make("cut")
    assert checkpoint.restore(run.trainer) and run.trainer.state.epoch == 1
    run.trainer.run()
    assert run.losses == whole.losses[3:]
    assert all(torch.equal(a, b) for a, b in zip(run.network.parameters(), whole.network.parameters(), strict=True))


def stopped_slowly(folder):
    """Train until a signal comes, and end once the parent says so."""
    parent = os.getppid()
    with exit_codes("again"):
        try:
            (folder / "running").touch()  # the signal may come at once
            hang()
        finally:
            (folder / "stopping").touch()
            while not (folder / "go on").exists() and os.getppid() == parent:
                threading.Event().wait(0.01)
            (folder / "ended").touch()


def test_a_signal_that_comes_twice_does_not_cut_the_end_short(tmp_path, fork, monkeypatch):
    monkeypatch.setattr(guard, "SAME_S", math.inf)
    child = fork(lambda: stopped_slowly(tmp_path))
    wait_for(tmp_path / "running", child)
    os.kill(child, signal.SIGTERM)
    wait_for(tmp_path / "stopping", child)
    os.kill(child, signal.SIGTERM)  # as torchrun does after SLURM
    (tmp_path / "go on").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert (tmp_path / "ended").exists()


def test_a_later_signal_ends_what_does_not_end(tmp_path, fork, monkeypatch):
    monkeypatch.setattr(guard, "SAME_S", 0.0)
    child = fork(lambda: stopped_slowly(tmp_path))
    wait_for(tmp_path / "running", child)
    os.kill(child, signal.SIGTERM)
    wait_for(tmp_path / "stopping", child)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not (tmp_path / "ended").exists()


def test_a_signal_while_a_failure_is_told_does_not_cut_that_short(tmp_path, fork):
    """As when torchrun ends the process whose connection to a dead one has just failed."""

    def train():
        trainer = guarded(tmp_path, lambda engine, batch: 1 / 0)
        on_failure(trainer, lambda error: (os.kill(os.getpid(), signal.SIGTERM), (tmp_path / "told").touch()))
        trainer.run([0])

    child = fork(train)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert (tmp_path / "told").exists()


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    guarded(tmp_path).run([0])
    assert signal.getsignal(signal.SIGTERM) is before


def test_signal_handlers_are_put_back_after_a_failure_too(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        guarded(tmp_path, lambda engine, batch: 1 / 0).run([0])
    assert signal.getsignal(signal.SIGTERM) is before
