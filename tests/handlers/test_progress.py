"""A bar at a terminal, a line an epoch in a log."""

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios

import pytest
import torch
from ignite.engine import Engine

from ultrarefiner_monai.handlers import Progress
from ultrarefiner_monai.handlers.progress import BAR, duration


def train(epochs, decollated=False):
    output = {"loss": torch.tensor(0.25)}
    engine = Engine(lambda engine, batch: [output] if decollated else output)
    Progress().attach(engine)
    engine.run([0, 1], max_epochs=epochs)


@pytest.mark.parametrize("decollated", [False, True])
def test_a_log_gets_a_line_an_epoch_with_loss_and_time_left(caplog, decollated):
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        train(2, decollated)
    assert caplog.messages == ["train epoch 1/2  loss 0.2500  (0 s, 0 s left)", "train epoch 2/2  loss 0.2500  (0 s)"]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 100 columns as standard error; a function that gives what it shows."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with os.fdopen(slave, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)

        def shown():
            screen.flush()
            return os.read(master, 2**16).decode()

        yield shown
    os.close(master)


def test_a_terminal_gets_a_bar_with_loss_and_time_left_below_the_lines(terminal, monkeypatch):
    monkeypatch.setitem(BAR, "mininterval", 0)
    console = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [console])
    monkeypatch.setattr(logging.getLogger("ultrarefiner_monai"), "level", logging.INFO)
    train(3)
    seen = terminal()
    assert re.search(r"train epoch 2/3:  67%\|\S+ +\| 4/6 \[00:00<00:00, .*it/s, loss=0\.2500\]", seen)
    lines = [line.split("\r")[-1] for line in seen.split("\n")]
    assert [line for line in lines if "epoch 2/3  loss 0.2500" in line] == [
        "train epoch 2/3  loss 0.2500  (0 s, 0 s left)"
    ]
    assert seen.endswith(" \r")  # the bar is gone
    assert logging.root.handlers == [console]


def test_a_failure_takes_the_bar_away(terminal):
    engine = Engine(lambda engine, batch: 1 / 0)
    Progress().attach(engine)
    with pytest.raises(ZeroDivisionError):
        engine.run([0], max_epochs=1)
    assert terminal().endswith(" \r")


def test_a_resumed_training_counts_on(terminal):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.25)})
    Progress().attach(engine)
    engine.state.epoch, engine.state.iteration, engine.state.max_epochs, engine.state.epoch_length = 2, 4, 4, 2
    engine.run([0, 1])
    assert re.search(r"train:  50%\|\S+ +\| 4/8 ", terminal())


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
