"""A bar at a terminal, a line an epoch in a log."""

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import threading
from contextlib import suppress

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


class Terminal:
    """A terminal of 100 columns as standard error; `shown` ends it and gives all that it has shown."""

    def __init__(self, monkeypatch):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.seen = []
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        self.screen = os.fdopen(slave, "w")
        monkeypatch.setattr(sys, "stderr", self.screen)

    def watch(self):  # a terminal that nobody reads blocks its writers
        with suppress(OSError):  # all of it read and the writer's end closed
            while part := os.read(self.master, 4096):
                self.seen.append(part)

    def shown(self):
        self.screen.close()
        self.watcher.join(5)
        os.close(self.master)
        return b"".join(self.seen).decode()


def test_a_terminal_gets_a_bar_with_loss_and_time_left_below_the_lines(monkeypatch):
    terminal = Terminal(monkeypatch)
    monkeypatch.setitem(BAR, "mininterval", 0)
    console = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [console])
    monkeypatch.setattr(logging.getLogger("ultrarefiner_monai"), "level", logging.INFO)
    train(3)
    seen = terminal.shown()
    assert re.search(r"train epoch 2/3:  67%\|\S+ +\| 4/6 \[00:00<00:00, .*it/s, loss=0\.2500\]", seen)
    lines = [line.rstrip("\r").split("\r")[-1] for line in seen.split("\n")]
    assert "train epoch 2/3  loss 0.2500  (0 s, 0 s left)" in lines
    assert seen.endswith(" \r")  # the bar is gone
    assert logging.root.handlers == [console]


def test_a_failure_takes_the_bar_away(monkeypatch):
    terminal = Terminal(monkeypatch)
    engine = Engine(lambda engine, batch: 1 / 0)
    Progress().attach(engine)
    with pytest.raises(ZeroDivisionError):
        engine.run([0], max_epochs=1)
    assert terminal.shown().endswith(" \r")


def test_the_bar_of_a_resumed_training_starts_where_it_stopped(monkeypatch):
    terminal = Terminal(monkeypatch)
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.25)})
    Progress().attach(engine)
    engine.state.epoch, engine.state.iteration, engine.state.max_epochs, engine.state.epoch_length = 2, 4, 4, 2
    engine.run([0, 1])
    assert re.search(r"train:  50%\|\S+ +\| 4/8 ", terminal.shown())


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
