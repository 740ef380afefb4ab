"""Checkpoints: the best model for users, the last state for resuming."""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ultrarefiner_monai.devices import gather, is_main, rank
from ultrarefiner_monai.handlers.random_states import capture_random_states, reseed_transforms, restore_random_states
from ultrarefiner_monai.handlers.resume_checks import (
    compare_optimizers,
    compare_threads,
    compare_validation,
    keep_schedules,
    read_finite,
)
from ultrarefiner_monai.handlers.run_guard import RunGuard
from ultrarefiner_monai.models.weights import (
    CheckpointError,
    bare,
    compare_card,
    load_model,
    load_strictly,
    not_finite,
    plain,
    save_model,
    write_torch,
)

__all__ = ["CheckpointError", "CheckpointHandler", "load_model", "save_model"]

logger = logging.getLogger(__name__)

ADDED = {"step"}  # objects that checkpoints of earlier versions lack: what they hold then is where they begin


class CheckpointHandler:
    """Saves the best model and the state of the training; `restore` goes on from there as if nothing had happened.

    Writes, from rank 0, into `output_dir`:

    - `model.pt`, `model.json`: the best network by `metric` (higher is better; undefined never wins), with its card;
    - `checkpoint.pt`: after each epoch, every `interval` steps and when a signal asks for an end: network, everything in
      `state` and `tallies`, gradient scaler, epoch, step within the next one, best metric and the random states of every rank;
    - `checkpoint.previous.pt`: the one before, the fallback if the last file is damaged.

    Nothing that is not finite is written, and a checkpoint of an earlier version that holds such weights counts as damaged.

    Attach it after the handlers that validate and that step the scheduler, so that it saves what they leave behind: in
    a MONAI bundle by `"$@checkpoint.attach(@train#trainer, @validate#evaluator)"` in `initialize`. While the trainer
    runs the folder is locked and signals end it cleanly (RunGuard). A resumed run equals an uninterrupted one bit for
    bit on a CPU, with data workers that are not persistent: an epoch in progress is begun with its random state, the
    batches that are done are passed over, and the random state of the step is put back.

    Args:
        output_dir: folder of the run.
        state: name -> object with `state_dict` and `load_state_dict`: optimizer, scheduler, a loss with parameters.
        network: the network that is trained.
        card: settings that decide a prediction; kept in model.json and compared when a run is resumed.
        metric: name in the evaluator's metrics that chooses the best model.
        tallies: name -> object with `state_dict` and `load_state_dict` that each process has for itself.
        interval: steps from one checkpoint within an epoch to the next; None saves none but after each epoch.
    """

    def __init__(
        self,
        output_dir: str | Path,
        state: Mapping[str, Any],
        network: nn.Module,
        card: Mapping[str, Any],
        metric: str = "refined_dice",
        tallies: Mapping[str, Any] | None = None,
        interval: int | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.last = self.output_dir / "checkpoint.pt"
        self.previous = self.output_dir / "checkpoint.previous.pt"
        self.state = dict(state)
        self.network = network
        self.card = dict(card)
        self.metric = metric
        self.tallies = dict(tallies or {})
        self.interval = interval
        self.best_metric = math.nan
        self.best_epoch = -1  # no validation yet
        self._guard = RunGuard(self.output_dir)
        self._evaluator: Engine | None = None
        self._pending: dict[str, Any] | None = None  # what was restored, until the epoch begins
        self._epoch_random: dict[str, Any] = {}  # random states in which the epoch in progress began
        self._validated: dict[str, Any] | None = None  # what to save where its validation is stopped
        self._epoch = 0  # of the last checkpoint that this handler read or wrote
        self._is_new = True  # none was read or written yet

    @property
    def epochs_done(self) -> int:
        """Epochs that are complete and saved."""
        return self._epoch

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Save during `trainer`'s run; `evaluator` is the one that `trainer`'s handlers validate with."""
        self._evaluator = evaluator
        self._guard.attach(trainer)
        trainer.add_event_handler(Events.STARTED, self._end_if_complete)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._pass_over)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._complete_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._complete_epoch)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._stop_validation)
        evaluator.add_event_handler(Events.COMPLETED, self._save_best, trainer)

    def restore(self, trainer: Engine) -> bool:
        """Load the last checkpoint into everything this handler holds and into `trainer`'s counters.

        Returns:
            False, with a log line, where there is none yet: the training starts from the beginning.

        Raises:
            CheckpointError: damaged without a fallback, made under other settings, of other objects or rates, or validated on
            another number of images.
        """
        path, found = self._read_newest()
        if found is None:
            logger.info("no checkpoint in %s: the training starts from the beginning", self.output_dir)
            return False
        compare_card(path, found["card"], {key: value for key, value in self.card.items() if key != "threads"})
        compare_threads(path, found["card"].get("threads"))
        compare_validation(path, found.get("validated"), self._images())
        self._load_objects(trainer, found, path)
        length = trainer.state.epoch_length
        keep_schedules(path, self.state, found, length)
        if found.get("epoch_length", length) != length:
            found["step"] = 0
        self._epoch, self.best_metric, self.best_epoch = found["epoch"], found["best_metric"], found["best_epoch"]
        self._pending, self._is_new = found, False
        if self._evaluator is not None and self.best_epoch >= 0:
            state: Any = self._evaluator.state
            state.best_metric, state.best_metric_epoch = self.best_metric, self.best_epoch
        if self._epoch < (trainer.state.max_epochs or 0):
            self._set_counters(trainer)
        if found.get("step", 0) == length:  # only its end is missing: validation, records, checkpoint
            trainer.add_event_handler(Events.STARTED, self._end_epoch)
        step = f", step {found['step']}" if found.get("step") else ""
        best = f"best {self.metric} {self.best_metric:.4f}"
        logger.info("resuming after epoch %d%s (%s) from %s", self._epoch, step, best, path)
        return True

    def _read_newest(self) -> tuple[Path, dict[str, Any] | None]:
        try:
            if self.last.exists() or not self.previous.exists():
                return self.last, read_finite(self.last) if self.last.exists() else None
        except CheckpointError as error:
            if not self.previous.exists():
                raise
            logger.warning("%s; falling back to the checkpoint before", error)
            found = read_finite(self.previous)
            if is_main():  # out of the way, or the next save would rotate it over the good one
                self.last.replace(self.output_dir / "checkpoint.damaged.pt")
            return self.previous, found
        return self.previous, read_finite(self.previous)

    def _images(self) -> int | None:
        """Number of images of a validation; None where it is not known."""
        dataset = getattr(getattr(self._evaluator, "data_loader", None), "dataset", None)
        return None if dataset is None else len(dataset)

    def _objects(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return self.state if scaler is None else {**self.state, "scaler": scaler}

    def _load_objects(self, trainer: Engine, found: dict[str, Any], path: Path) -> None:
        objects = self._objects(trainer)
        if found["state"].keys() != objects.keys() and found["state"].keys() | ADDED != objects.keys() | ADDED:
            saved, wanted = sorted(found["state"]), sorted(objects)
            raise CheckpointError(
                f"{path} holds the state of {saved}, expected {wanted}; start anew or restore the config"
            )
        objects = {name: target for name, target in objects.items() if name in found["state"]}
        compare_optimizers(path, objects, found["state"])
        load_strictly(bare(self.network), found["network"], path)
        for name, target in objects.items():
            load_strictly(target, found["state"][name], path)

    def _set_counters(self, trainer: Engine) -> None:
        length = trainer.state.epoch_length or 0
        step = self._pending.get("step", 0) if self._pending else 0
        trainer.state.epoch = self._epoch
        trainer.state.iteration = self._epoch * length + step % max(length, 1)

    def _end_if_complete(self, trainer: Engine) -> None:
        """Ignite would start a finished training again from epoch 0."""
        if self._epoch >= (trainer.state.max_epochs or 0) > 0:
            logger.info("all %d epochs are done: nothing left to train", trainer.state.max_epochs)
            self._set_counters(trainer)
            trainer.terminate()

    def _end_epoch(self, trainer: Engine) -> None:
        """Do what follows the last step of the epoch that was in progress."""
        found, self._pending = self._pending, None
        if found is None:  # an earlier run of this trainer has done it
            return
        trainer.state.epoch, trainer.state.iteration = self._epoch + 1, (self._epoch + 1) * found["epoch_length"]
        self._restore_process(found, "random", _generator(trainer))
        self._validated = found
        trainer.fire_event(Events.EPOCH_COMPLETED)

    def _start_epoch(self, trainer: Engine) -> None:
        if (found := self._pending) is not None:
            within = bool(found.get("step"))
            self._restore_process(found, "epoch_random" if within else "random", _generator(trainer))
            self._pending = found if within else None
        self._epoch_random = capture_random_states(_generator(trainer))
        reseed_transforms(getattr(trainer, "data_loader", None))

    def _pass_over(self, trainer: Engine) -> None:
        """Pass over the batches that are done; loading them moves every generator as it did before."""
        found, self._pending = self._pending, None
        if found is None:
            return
        batches: Any = vars(trainer)["_dataloader_iter"]  # ignite's, of this epoch
        for _ in range(found["step"]):
            next(batches)
        self._restore_process(found, "random", _generator(trainer))

    def _restore_process(self, found: dict[str, Any], key: str, generator: Any) -> None:
        """Put back the random states under `key` of this process, and its tallies."""
        states = found[key]
        if rank() >= len(states):
            logger.warning(
                "the checkpoint has random states of %d processes only: this rank keeps its own", len(states)
            )
            return
        restore_random_states(states[rank()], generator)
        for name, tally in self.tallies.items():
            if found.get("step") and name in found["tallies"][rank()]:
                tally.load_state_dict(found["tallies"][rank()][name])

    def _complete_step(self, trainer: Engine) -> None:
        """Save where it is due or where an end is asked for, and then end."""
        length = trainer.state.epoch_length
        step = trainer.state.iteration - (trainer.state.epoch - 1) * (length or 0)
        number = getattr(trainer.state, "stop", 0)
        due = self.interval is not None and trainer.state.iteration % self.interval == 0
        if not (number or due or step == length):
            return
        content = self._content(trainer, trainer.state.epoch - 1, step)
        self._validated = content
        if number or (due and step != length):
            self._write(content)
        if number:
            self._guard.end(number)

    def _stop_validation(self, _: Engine) -> None:
        """End a validation that a signal has found; it is begun again. Several processes, of which some may be done, go on."""
        if self._guard.asked and self._validated is not None and len(self._validated["random"]) == 1:
            self._write(self._validated)
            self._guard.end(self._guard.asked)

    def _complete_epoch(self, trainer: Engine) -> None:
        self._write(self._content(trainer, trainer.state.epoch, 0))
        self._validated = None
        self._epoch = trainer.state.epoch

    def _content(self, trainer: Engine, epoch: int, step: int) -> dict[str, Any]:
        """The state after so many epochs and steps of the next one. A collective: all ranks must call it."""
        tallies = {name: tally.state_dict() for name, tally in self.tallies.items()}
        own = (capture_random_states(_generator(trainer)), self._epoch_random, tallies)
        random, epoch_random, every_tally = zip(*gather(own), strict=True)
        within = {"epoch_random": list(epoch_random), "tallies": list(every_tally)} if step else {}
        return {
            "network": bare(self.network).state_dict(),
            "state": {name: plain(item.state_dict()) for name, item in self._objects(trainer).items()},
            "card": plain(self.card),
            "epoch": epoch,
            "step": step,
            "epoch_length": trainer.state.epoch_length,
            "validated": self._images(),
            "best_metric": self.best_metric,
            "best_epoch": self.best_epoch,
            "random": list(random),
            **within,
        }

    def _write(self, content: dict[str, Any]) -> None:
        self._guard.patiently()
        if is_main():
            if name := not_finite({key: content[key] for key in ("network", "state")}):
                raise CheckpointError(
                    f"{self.last}: not written, since {name} is not finite; lower the learning rate (what was saved before is "
                    "intact)"
                )
            self._keep_previous()
            write_torch(content, self.last)
        self._is_new = False

    def _keep_previous(self) -> None:
        """Let `previous` name the file that `last` names, so that both are whole while the new one is being written."""
        if self._is_new:  # a fresh start: an older run's checkpoint is no fallback for this one
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


def _generator(trainer: Engine) -> Any:
    """The data loader's own random generator; None where it draws from torch's."""
    return getattr(getattr(trainer, "data_loader", None), "generator", None)
