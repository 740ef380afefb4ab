"""The training of a bundle: engines, tracker and checkpoints tied together, and the run."""

import json
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.multi_gpu import end_with_peers
from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.bundle.preflight.data import write_excluded
from ultrarefiner_monai.bundle.run_facts import EXECUTED, compare_keys, run_facts
from ultrarefiner_monai.bundle.starting_weights import model_card
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.errors import one_line_errors
from ultrarefiner_monai.files import finite, write_atomically
from ultrarefiner_monai.handlers import CheckpointHandler, RunReport, TrackTraining, TrackValidation
from ultrarefiner_monai.handlers.earlier_run import remove_work
from ultrarefiner_monai.handlers.failure import log_in_one_line
from ultrarefiner_monai.handlers.steps import TrainingStep
from ultrarefiner_monai.handlers.steps.weight_average import WeightAverage
from ultrarefiner_monai.metrics.scores import scores_of_classes
from ultrarefiner_monai.models.inferers import memory_errors
from ultrarefiner_monai.tracking import Tracker
from ultrarefiner_monai.tracking.metrics_file import read_epochs


@one_line_errors
def begin_training(
    plan: Plan,
    network: nn.Module,
    lr_scheduler: LRScheduler,
    tracker: Tracker,
    trainer: SupervisedTrainer,
    evaluator: SupervisedEvaluator,
) -> None:
    """Tie tracker and checkpoints to the engines, go back to the last checkpoint if asked, and note the executed configuration.

    The best model is chosen by the validation Dice of the stage's last output.

    Args:
        plan: of the training.
        network: what is trained, bare, for the model's card.
        lr_scheduler: steps the rates of the trainer's optimizer.
        tracker: takes the numbers of both engines.
        trainer: its network, optimizer and, where it learns, loss are saved and restored.
        evaluator: the one that the trainer's handlers validate with.

    Raises:
        SystemExit: the output folder is in use, there is no usable checkpoint to go back to, or it was validated with other
            prompts.
    """
    folder = Path(plan.output_dir)
    loss: Any = trainer.loss_function
    loss.to(trainer.state.device)
    state: dict[str, Any] = {"optimizer": trainer.optimizer, "lr_scheduler": lr_scheduler}
    if any(True for _ in loss.parameters()):
        state["loss"] = loss
    parser = running_parser()
    step: TrainingStep = parser.get_parsed_content("train#step")
    if decay := parser.get_parsed_content("weight_average"):
        state["average"] = average = WeightAverage(network, trainer.optimizer, decay)
        average.attach(trainer, evaluator)
    tracking = TrackTraining(tracker, loss, trainer.optimizer)
    checkpoints = CheckpointHandler(
        folder,
        {**state, "step": step},
        trainer.network,
        model_card(plan, network) | {"seed": parser.get_parsed_content("seed"), "threads": torch.get_num_threads()},
        metric=f"{plan.stage.outputs[-1]}_dice",
        tallies={"tracking": tracking},
        interval=parser.get_parsed_content("checkpoint_interval"),
    )
    if is_main() and not plan.request.resume:  # first of all handlers: the others begin their files anew
        trainer.add_event_handler(Events.STARTED, lambda _: remove_work(folder))
    log_in_one_line(trainer, evaluator)
    tracking.attach(trainer)
    TrackValidation(tracker, trainer).attach(evaluator)
    checkpoints.attach(trainer, evaluator)
    RunReport(folder, run_facts(plan), lambda: _training_so_far(plan, checkpoints, step)).attach(trainer)
    end_with_peers(trainer, tracker, folder)
    # Building loaders has moved the generator or not, depending on their workers; the training starts from the seed.
    torch.manual_seed(torch.initial_seed())
    if plan.request.resume:
        compare_keys(plan)
        checkpoints.restore(trainer)
    content = (json.dumps(parser.get(), indent=4) + "\n").encode()
    trainer.add_event_handler(Events.STARTED, lambda _: write_atomically(folder / EXECUTED, content))
    trainer.add_event_handler(Events.STARTED, lambda _: write_excluded(plan.excluded, folder))


def _training_so_far(plan: Plan, checkpoints: CheckpointHandler, step: TrainingStep) -> dict[str, Any]:
    """How far a training is, its best epoch with its scores of classes, the images in memory at once, the batches left out."""
    best = {"metric": checkpoints.metric, "value": checkpoints.best_metric, "epoch": checkpoints.best_epoch}
    best |= scores_of_classes(read_epochs(Path(plan.output_dir)).get(checkpoints.best_epoch, {}))
    return {
        "epochs": {"done": checkpoints.epochs_done, "planned": plan.epochs},
        "best": finite(best) if checkpoints.best_epoch >= 0 else None,
        "micro_batch": step.micro_batch,
        "skipped_batches": step.skipped,
    }


@one_line_errors
def train(trainer: SupervisedTrainer) -> None:
    """Run the training.

    Raises:
        SystemExit: the disk is full, a file of the data or the cache is damaged, the output folder is in use, something is not
            finite, or there is no memory left.
    """
    with memory_errors():
        trainer.run()
