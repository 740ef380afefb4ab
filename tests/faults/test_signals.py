"""One process a folder, and what SIGINT and SIGTERM do to a training: saved, exit code 130 or 143, resumable."""

import os
import signal
import subprocess
import sys

import pytest
from forking import hang, wait_for
from ignite.engine import Engine
from stage_trainings import command, run_command

from ultrarefiner_monai.handlers import CheckpointError
from ultrarefiner_monai.handlers.run_guard import RunGuard

pytestmark = pytest.mark.fault(21)

PLANT = """
import runpy, threading
from pathlib import Path
from ignite.engine import Events
from ultrarefiner_monai.bundle import training

def hang(trainer):
    Path("running").touch()
    while not getattr(trainer.state, "asked", 0):
        threading.Event().wait(0.05)

begin = training.end_with_peers
def begin_and_plant(trainer, tracker, folder):
    begin(trainer, tracker, folder)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=trainer.state.epoch_length + 2), hang)
training.end_with_peers = begin_and_plant
runpy.run_module("monai.bundle", run_name="__main__")
"""


def guarded(folder, work=lambda engine, batch: None):
    trainer = Engine(work)
    RunGuard(folder).attach(trainer)
    return trainer


def test_a_second_process_is_refused_until_the_first_has_gone(tmp_path, fork):
    def hold(engine, batch):
        (tmp_path / "running").touch()
        hang()

    child = fork(lambda: guarded(tmp_path / "run", hold).run([0]))
    wait_for(tmp_path / "running", child)
    with pytest.raises(CheckpointError, match="run is in use by another training"):
        guarded(tmp_path / "run").run([0])
    guarded(tmp_path / "elsewhere").run([0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    guarded(tmp_path / "run").run([0])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_every_stage(stage, stage_keys, tmp_path, number, code):
    """A training is stopped in its second epoch, while a second one is refused, and goes on to its end."""
    keys = {**stage_keys, "epochs": 2}
    (tmp_path / "plant.py").write_text(PLANT)
    words = [sys.executable, str(tmp_path / "plant.py"), *command(stage, **keys)[3:]]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log)
        wait_for(tmp_path / "running", process.pid)
        second = run_command(stage, tmp_path, **keys, overwrite="true")
        assert second.returncode == 1 and "in use by another training" in second.stderr.splitlines()[-1]
        process.send_signal(number)
        assert process.wait(timeout=100) == code, (tmp_path / "log").read_text()[-2000:]
    resumed = run_command(stage, tmp_path, **keys, resume="true")
    assert resumed.returncode == 0 and "resuming after epoch 1" in resumed.stdout + resumed.stderr
