"""A bar at a terminal, a line an epoch in a log."""

import logging
import sys

import pytest
import torch
from ignite.engine import Engine

from ultrarefiner_monai.handlers import Progress
from ultrarefiner_monai.handlers.progress import duration


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


def test_a_terminal_gets_a_bar(monkeypatch, capsys, caplog):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        train(1)
    assert "train" in capsys.readouterr().err and not caplog.messages


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
