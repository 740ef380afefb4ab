"""Trainings that are interrupted at a chosen point, in a child process, and what they leave."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents

from ultrarefiner_monai.cross_validation.tasks import config_files
from ultrarefiner_monai.systems import find_stage

Point = tuple[str, int]  # "step" 3, "validation" 1 (after the epoch of that number), "kill" 3 (SIGKILL after that step)


def in_child(function: Callable[[], Any]) -> int:
    """Run a function in a fork of this process; its exit code, negative where a signal has ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        function()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        if isinstance(error.code, str):
            (Path.cwd() / "exit.txt").write_text(error.code)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def train(stage: str, trace: Path, point: Point | None = None, **keys: Any) -> int:
    """Train `stage` in a child process that is interrupted at `point`, and add its losses to the file `trace`; exit code."""

    def run() -> None:
        from monai.bundle import ConfigWorkflow

        found = find_stage(stage)[1]
        workflow = ConfigWorkflow(config_files(found.bundle, *found.configs), workflow_type="train", **keys)
        workflow.initialize()
        trainer, evaluator = (
            workflow.parser.get_parsed_content(name) for name in ("train#trainer", "validate#evaluator")
        )
        record(trainer, trace)
        interrupt(trainer, evaluator, point)
        workflow.run()

    return in_child(run)


def record(trainer: Any, trace: Path) -> None:
    """Add a line a step to the file `trace`: its number and the loss, exactly."""

    @trainer.on(IterationEvents.MODEL_COMPLETED)
    def note(engine: Any) -> None:
        with trace.open("a") as file:
            file.write(f"{engine.state.iteration} {float(engine.state.output['loss']).hex()}\n")


def interrupt(trainer: Any, evaluator: Any, point: Point | None) -> None:
    """Send this process the signal at `point`."""
    kind, number = point or ("", 0)
    if kind == "step":
        trainer.add_event_handler(Events.ITERATION_STARTED(once=number), lambda _: os.kill(os.getpid(), signal.SIGTERM))
    if kind == "kill":
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=number), lambda _: os.kill(os.getpid(), signal.SIGKILL)
        )
    if kind == "validation":

        @evaluator.on(Events.ITERATION_STARTED)
        def stop(_: Any) -> None:
            if trainer.state.epoch == number:
                os.kill(os.getpid(), signal.SIGTERM)


def losses(trace: Path) -> dict[int, float]:
    """The loss of each step; of one that was done again, the last."""
    lines = [line.split() for line in trace.read_text().splitlines()]
    return {int(step): float.fromhex(value) for step, value in lines}


def same(a: Any, b: Any) -> bool:
    """Whether nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def saved(folder: Path, name: str = "checkpoint.pt") -> Any:
    """What a training has saved."""
    return torch.load(folder / name, weights_only=True)
