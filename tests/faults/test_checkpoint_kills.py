"""A training killed at every step of writing its files, and checkpoints with a damaged byte."""

import os
import random
import signal
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from stage_trainings import run_command
from torch import nn

from ultrarefiner_monai.handlers import CheckpointError, CheckpointHandler, load_model
from ultrarefiner_monai.models.weights import read_torch, write_torch

EPOCHS = 3


def make_training(folder, attached=True):
    """A trainer that does nothing but write, whose weights say which epoch they are of and whose epochs get better."""
    network = nn.Linear(40, 40, bias=False)
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    trainer.state.max_epochs, trainer.state.epoch_length = EPOCHS, 1
    handler = CheckpointHandler(folder, {}, network, {"phase": "phase1"})
    evaluator.add_event_handler(
        Events.COMPLETED, lambda engine: engine.state.metrics.update(refined_dice=float(network.weight[0, 0]))
    )

    @trainer.on(Events.EPOCH_STARTED)
    def mark(engine):
        network.weight.data.fill_(engine.state.epoch)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    if attached:
        handler.attach(trainer, evaluator)
    return trainer, handler, network


class Steps:
    """Counts what reaches the disk, and kills the process before, in the middle of, or after the `last` one."""

    def __init__(self, last=0, generator=None):
        self.count, self.last, self.generator = 0, last, generator

    def take(self):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def stepped(*arguments, **named):
            self.take()
            result = function(*arguments, **named)
            self.take()
            return result

        return stepped

    def opened(self, function):
        def open_stepped(path, *arguments, **named):
            file = function(path, *arguments, **named)
            if str(path).endswith(".partial"):
                write = file.write
                file = Stepped(file, lambda content: self.write(write, file, content))
            return file

        return open_stepped

    def write(self, write, file, content):
        """Half of it, at random, is on the disk when the process dies in the middle."""
        part = self.generator.randrange(len(content) + 1) if self.generator else 0
        write(content[:part])
        file.flush()
        self.take()
        write(content[part:])
        return len(content)

    def plant(self):
        os.fsync, os.link = self.around(os.fsync), self.around(os.link)
        Path.replace, Path.unlink = self.around(Path.replace), self.around(Path.unlink)
        Path.open = self.opened(Path.open)


class Stepped:
    """A file whose `write` is another."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def go_on(folder, steps=None):
    """Train to the end from what is there; the steps are counted from the second epoch on."""
    trainer, handler, network = make_training(folder)
    handler.restore(trainer)
    if steps:
        trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda _: steps.plant())
    trainer.run([0], max_epochs=EPOCHS)
    return handler, network


@pytest.mark.fault(1)
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_step_of_writing_loses_nothing(tmp_path, fork, caplog, every):
    def count():
        steps = Steps()
        go_on(tmp_path / "whole", steps)
        (tmp_path / "count").write_text(str(steps.count))

    os.waitpid(fork(count), 0)
    total, generator = int((tmp_path / "count").read_text()), random.Random(0)
    assert total > 40  # of two epochs: two files of weights, a card and a link each
    for last in {*range(1, total + 1, every), *range(total - 10, total + 1)}:
        folder = tmp_path / str(last)
        child = fork(lambda folder=folder, last=last: go_on(folder, Steps(last, generator)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        trainer, handler, network = make_training(folder)
        assert handler.restore(trainer) and handler.epochs_done in (1, 2, 3)
        assert torch.all(network.weight == handler.epochs_done)
        trainer.run([0], max_epochs=EPOCHS)
        assert (folder / "model.pt").read_bytes() == (tmp_path / "whole" / "model.pt").read_bytes()
        assert torch.equal(read_torch(handler.last)["network"]["weight"], network.weight)
        load_model(network, folder / "model.pt", {"phase": "phase1"})
        assert not list(folder.glob(".*.partial")), last
    assert not [record for record in caplog.records if "damaged" in record.getMessage()]


@pytest.mark.fault(2)
def test_a_flipped_byte_anywhere_is_noticed(tmp_path):
    """Also where zip files have no checksum, or torch does not look at it; all but a mark that has become none."""
    write_torch({"weight": torch.arange(6.0), "epoch": 3}, tmp_path / "whole.pt")
    content, passed = (tmp_path / "whole.pt").read_bytes(), []
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "a.pt").write_bytes(damaged)
        try:
            found = read_torch(tmp_path / "a.pt")
        except CheckpointError as error:
            assert str(error).startswith(f"{tmp_path / 'a.pt'} is damaged")
        else:
            passed.append(position)
            assert torch.equal(found["weight"], torch.arange(6.0)) and found["epoch"] == 3
    assert set(passed) <= set(range(content.rindex(b"sha256:"), len(content)))
    found = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert found["epoch"] == 3  # by any reader


@pytest.mark.fault(2)
def test_a_checkpoint_of_an_earlier_version_has_no_seal(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    assert read_torch(tmp_path / "a.pt") == {"epoch": 3}


@pytest.mark.fault(2)
@pytest.mark.parametrize("has_previous", [True, False])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, caplog, has_previous):
    handler, _ = go_on(tmp_path)
    whole, previous = handler.last.read_bytes(), handler.previous.read_bytes()
    generator = random.Random(0)
    cuts = [whole[: generator.randrange(len(whole))] for _ in range(10)]
    start = whole.index(b"PK", 4)  # where the entry after the first begins: what is before is small
    flips = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for at in generator.sample(range(start + 64, start + 64 + 6400), 10)
    ]
    for damaged in (*cuts, *flips):
        handler.last.write_bytes(damaged)
        handler.previous.write_bytes(previous) if has_previous else handler.previous.unlink(missing_ok=True)
        trainer, second, network = make_training(tmp_path, attached=False)
        caplog.clear()
        if has_previous:
            assert second.restore(trainer) and torch.all(network.weight == EPOCHS - 1)
            (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
            assert str(handler.last) in warning and "falling back" in warning
        else:
            with pytest.raises(CheckpointError, match="is damaged or no plain checkpoint") as caught:
                second.restore(trainer)
            assert str(handler.last) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.fault(2)
def test_every_stage_falls_back_or_ends_with_one_line(stage, stage_keys, tmp_path):
    assert run_command(stage, tmp_path, **stage_keys | {"epochs": 2}).returncode == 0
    last = tmp_path / "out" / "checkpoint.pt"
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    last.write_bytes(damaged)
    resumed = run_command(stage, tmp_path, **stage_keys | {"epochs": 2, "resume": "true"})
    said = resumed.stdout + resumed.stderr
    assert resumed.returncode == 0 and f"{last} is damaged" in said and "resuming after epoch 1" in said
    last.write_bytes(damaged)
    (tmp_path / "out" / "checkpoint.previous.pt").unlink()
    refused = run_command(stage, tmp_path, **stage_keys | {"epochs": 3, "resume": "true"})
    assert refused.returncode == 1 and f"{last} is damaged" in refused.stderr.splitlines()[-1]
