"""Checkpoints: the best model for users, the last state for resuming."""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ultrarefiner_monai.devices import gather, is_main, rank
from ultrarefiner_monai.handlers.random_states import capture_random_states, reseed_transforms, restore_random_states
from ultrarefiner_monai.handlers.run_guard import RunGuard
from ultrarefiner_monai.models.weights import (
    CheckpointError,
    bare,
    compare_card,
    load_model,
    load_strictly,
    read_torch,
    save_model,
    write_torch,
)

__all__ = ["CheckpointError", "CheckpointHandler", "load_model", "save_model"]

logger = logging.getLogger(__name__)


class CheckpointHandler:
    """Saves the best model and the last complete epoch; `restore` goes on from there as if nothing had happened.

    Writes, from rank 0, into `output_dir`:
        model.pt, model.json     the best network by `metric` (higher is better; undefined never wins), with its card
        checkpoint.pt            after each epoch: network, everything in `state`, gradient scaler, epoch, best
                                 metric and the random states of every rank
        checkpoint.previous.pt   the epoch before, the fallback if the last file is damaged

    Attach it after the handlers that validate and that step the scheduler, so that it saves what they leave behind: in
    a MONAI bundle by `"$@checkpoint.attach(@train#trainer, @validate#evaluator)"` in `initialize`. While the trainer
    runs the folder is locked and signals end it cleanly (RunGuard). A resumed run equals an uninterrupted one bit for
    bit on a CPU, with data workers that are not persistent.

    Args:
        output_dir: folder of the run.
        state: name -> object with `state_dict` and `load_state_dict`: optimizer, scheduler, a loss with parameters.
        network: the network that is trained.
        card: settings that decide a prediction; kept in model.json and compared when a run is resumed.
        metric: name in the evaluator's metrics that chooses the best model.
    """

    def __init__(
        self,
        output_dir: str | Path,
        state: Mapping[str, Any],
        network: nn.Module,
        card: Mapping[str, Any],
        metric: str = "refined_dice",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.last = self.output_dir / "checkpoint.pt"
        self.previous = self.output_dir / "checkpoint.previous.pt"
        self.state = dict(state)
        self.network = network
        self.card = dict(card)
        self.metric = metric
        self.best_metric = math.nan
        self.best_epoch = -1  # no validation yet
        self._evaluator: Engine | None = None
        self._pending_random: list[dict[str, Any]] | None = None
        self._epoch = 0  # of the last checkpoint that this handler read or wrote; 0 = none

    @property
    def epochs_done(self) -> int:
        """Epochs that are complete and saved."""
        return self._epoch

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Save during `trainer`'s run; `evaluator` is the one that `trainer`'s handlers validate with."""
        self._evaluator = evaluator
        RunGuard(self.output_dir).attach(trainer)
        trainer.add_event_handler(Events.STARTED, self._end_if_complete)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)
        evaluator.add_event_handler(Events.COMPLETED, self._save_best, trainer)

    def restore(self, trainer: Engine) -> bool:
        """Load the last checkpoint into everything this handler holds and into `trainer`'s counters.

        Returns:
            False, with a log line, where there is none yet: the training starts from the beginning.

        Raises:
            CheckpointError: damaged without a fallback, made under other settings, of other objects, or validated on another
            number of images.
        """
        path, found = self._read_newest()
        if found is None:
            logger.info("no checkpoint in %s: the training starts from the beginning", self.output_dir)
            return False
        compare_card(path, found["card"], self.card)
        self._compare_validation(path, found)
        self._load_objects(trainer, found, path)
        self._keep_schedule(trainer, found, path)
        self._epoch, self.best_metric, self.best_epoch = found["epoch"], found["best_metric"], found["best_epoch"]
        self._pending_random = found["random"]
        if self._evaluator is not None and self.best_epoch >= 0:
            state: Any = self._evaluator.state
            state.best_metric, state.best_metric_epoch = self.best_metric, self.best_epoch
        if self._epoch < (trainer.state.max_epochs or 0):
            self._set_counters(trainer)
        logger.info("resuming after epoch %d (best %s %.4f) from %s", self._epoch, self.metric, self.best_metric, path)
        return True

    def _read_newest(self) -> tuple[Path, dict[str, Any] | None]:
        try:
            if self.last.exists() or not self.previous.exists():
                return self.last, read_torch(self.last) if self.last.exists() else None
        except CheckpointError as error:
            if not self.previous.exists():
                raise
            logger.warning("%s; falling back to the epoch before", error)
            if is_main():  # out of the way, or the next save would rotate it over the good one
                self.last.replace(self.output_dir / "checkpoint.damaged.pt")
        return self.previous, read_torch(self.previous)

    def _compare_validation(self, path: Path, found: dict[str, Any]) -> None:
        """The best metric so far means nothing on other images."""
        before, now = found.get("validated"), self._validated()
        if before is not None and now is not None and before != now:
            raise CheckpointError(
                f"{path} was validated on {before} images, expected {now}: the best epoch of both cannot be told; "
                "start anew or restore the list of items"
            )

    def _validated(self) -> int | None:
        """Number of images of a validation; None where it is not known."""
        dataset = getattr(getattr(self._evaluator, "data_loader", None), "dataset", None)
        return None if dataset is None else len(dataset)

    def _keep_schedule(self, trainer: Engine, found: dict[str, Any], path: Path) -> None:
        """Let schedules of iterations go on at the epoch, though it is longer or shorter: other batches, processes or items."""
        before, now = found.get("epoch_length"), trainer.state.epoch_length
        if before is None or now is None or before == now:
            return
        for name, schedule in self.state.items():
            if not isinstance(schedule, LRScheduler) or schedule.last_epoch != found["epoch"] * before:
                continue  # it counts epochs
            lengths = f"{before} iterations an epoch until epoch {found['epoch']}, {now} from now on"
            if not isinstance(schedule, LambdaLR):
                raise CheckpointError(f"{path}: {lengths}, which {name} cannot follow; restore the batch size")
            logger.warning("%s: %s; the learning rate follows the same curve over the epochs", path, lengths)
            schedule.last_epoch = found["epoch"] * now - 1
            schedule.step()

    def _objects(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return self.state if scaler is None else {**self.state, "scaler": scaler}

    def _load_objects(self, trainer: Engine, found: dict[str, Any], path: Path) -> None:
        objects = self._objects(trainer)
        if objects.keys() != found["state"].keys():
            saved, wanted = sorted(found["state"]), sorted(objects)
            raise CheckpointError(
                f"{path} holds the state of {saved}, expected {wanted}; start anew or restore the config"
            )
        load_strictly(bare(self.network), found["network"], path)
        for name, target in objects.items():
            load_strictly(target, found["state"][name], path)

    def _set_counters(self, trainer: Engine) -> None:
        trainer.state.epoch = self._epoch
        trainer.state.iteration = self._epoch * (trainer.state.epoch_length or 0)

    def _end_if_complete(self, trainer: Engine) -> None:
        """Ignite would start a finished training again from epoch 0."""
        if self._epoch >= (trainer.state.max_epochs or 0) > 0:
            logger.info("all %d epochs are done: nothing left to train", trainer.state.max_epochs)
            self._set_counters(trainer)
            trainer.terminate()

    def _start_epoch(self, trainer: Engine) -> None:
        loader = getattr(trainer, "data_loader", None)
        if self._pending_random is not None:
            self._restore_random(self._pending_random, loader)
            self._pending_random = None
        reseed_transforms(loader)

    def _restore_random(self, states: list[dict[str, Any]], loader: Any) -> None:
        if rank() < len(states):
            restore_random_states(states[rank()], getattr(loader, "generator", None))
        else:
            logger.warning(
                "the checkpoint has random states of %d processes only: this rank keeps its own", len(states)
            )

    def _save_last(self, trainer: Engine) -> None:
        states = gather(capture_random_states(getattr(getattr(trainer, "data_loader", None), "generator", None)))
        if is_main():
            content = {
                "network": bare(self.network).state_dict(),
                "state": {name: _plain(item.state_dict()) for name, item in self._objects(trainer).items()},
                "card": _plain(self.card),
                "epoch": trainer.state.epoch,
                "epoch_length": trainer.state.epoch_length,
                "validated": self._validated(),
                "best_metric": self.best_metric,
                "best_epoch": self.best_epoch,
                "random": states,
            }
            self._keep_previous()
            write_torch(content, self.last)
        self._epoch = trainer.state.epoch

    def _keep_previous(self) -> None:
        """Let `previous` name the file that `last` names, so that both are whole while the new one is being written."""
        if self._epoch == 0:  # a fresh start: an older run's checkpoint is no fallback for this one
            self.previous.unlink(missing_ok=True)
        elif self.last.exists() and not (self.previous.exists() and self.previous.samefile(self.last)):
            # The same after a kill in between, where renaming would do nothing and leave the link.
            link = self.previous.with_name(f".{self.previous.name}.partial")
            link.unlink(missing_ok=True)
            try:
                os.link(self.last, link)
                link.replace(self.previous)
            except OSError:  # a file system without hard links
                self.last.replace(self.previous)

    def _save_best(self, evaluator: Engine, trainer: Engine) -> None:
        if self.metric not in evaluator.state.metrics:
            names = sorted(evaluator.state.metrics)
            raise CheckpointError(f"metric {self.metric!r} is not among the validation's {names}; set one of them")
        value = float(evaluator.state.metrics[self.metric])
        better = value > self.best_metric or (math.isnan(self.best_metric) and not math.isnan(value))
        if not (better or self.best_epoch < 0):
            return
        self.best_metric, self.best_epoch = value, trainer.state.epoch
        if is_main():
            card = {
                **self.card,
                "epoch": self.best_epoch,
                "metric": {self.metric: None if math.isnan(value) else value},
            }
            save_model(self.network, self.output_dir / "model.pt", card)


def _plain(value: Any) -> Any:
    """The same value without NumPy types, which `weights_only=True` refuses."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(item) for item in value])
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value
