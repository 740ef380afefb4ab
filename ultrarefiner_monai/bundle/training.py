"""The training of a bundle: engines, tracker and checkpoints tied together, and the run."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.preflight.data import write_excluded
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.bundle.run_facts import EXECUTED, run_facts
from ultrarefiner_monai.errors import one_line_errors
from ultrarefiner_monai.files import finite, write_atomically
from ultrarefiner_monai.handlers import CheckpointHandler, RunReport, Tracker, TrackValidation


@one_line_errors
def begin_training(
    plan: Plan,
    tracker: Tracker,
    trainer: SupervisedTrainer,
    evaluator: SupervisedEvaluator,
    checkpoints: CheckpointHandler,
    resume: bool,
) -> None:
    """Tie tracker and checkpoints to the engines, go back to the last epoch if asked, and note the executed configuration.

    Raises:
        SystemExit: the output folder is in use, or `resume` finds no usable checkpoint.
    """
    TrackValidation(tracker, trainer).attach(evaluator)
    checkpoints.attach(trainer, evaluator)
    RunReport(str(plan.output_dir), run_facts(plan), partial(_training_so_far, plan, checkpoints)).attach(trainer)
    # Building loaders has moved the generator or not, depending on their workers; the training starts from the seed.
    torch.manual_seed(torch.initial_seed())
    if resume:
        checkpoints.restore(trainer)
    content = (json.dumps(running_parser().get(), indent=4) + "\n").encode()
    folder = Path(str(plan.output_dir))
    trainer.add_event_handler(Events.STARTED, lambda _: write_atomically(folder / EXECUTED, content))
    trainer.add_event_handler(Events.STARTED, lambda _: write_excluded(plan.excluded, folder))


def _training_so_far(plan: Plan, checkpoints: CheckpointHandler) -> dict[str, Any]:
    """How far a training is, and its best epoch."""
    best = {"metric": checkpoints.metric, "value": checkpoints.best_metric, "epoch": checkpoints.best_epoch}
    return {
        "epochs": {"done": checkpoints.epochs_done, "planned": plan.epochs},
        "best": finite(best) if checkpoints.best_epoch >= 0 else None,
    }


@one_line_errors
def train(trainer: SupervisedTrainer) -> None:
    """Run the training.

    Raises:
        SystemExit: the disk is full, a file of the data or the cache is damaged, or the output folder is in use.
    """
    trainer.run()
