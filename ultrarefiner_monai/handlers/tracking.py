"""What a training tells the tracker at each epoch and validation."""

from typing import Any

import torch
from ignite.engine import Engine, Events

from ultrarefiner_monai.devices import gather
from ultrarefiner_monai.handlers.failure import on_failure, was_stopped
from ultrarefiner_monai.tracking.tracker import Tracker


class TrackTraining:
    """Logs each epoch of a trainer and opens and ends the tracker's run with it.

    Names, equal in all stages: `train_loss` and `train_<component>` (means over the epoch and over all ranks),
    `lr_<group>` (the group's name or number), and where a loss learns how to weigh its parts, `log_variance_<part>` and
    the weight that follows, `weight_<part>` (Kendall et al. 2018). Batches that a step left out (`skipped` in its output) are
    in no mean; their number, where there are any, is `skipped_batches`.

    Put it before handlers that re-raise exceptions (MONAI's StatsHandler), or they keep a failure from it.

    Args:
        tracker: where the numbers go.
        loss_function: its `components` (name -> scalar of the last call) and `learned_weights` (name -> log variance and
            weight) are logged if it has them.
        optimizer: its learning rates are logged.
    """

    def __init__(self, tracker: Tracker, loss_function: Any, optimizer: torch.optim.Optimizer) -> None:
        self.tracker = tracker
        self.loss_function = loss_function
        self.optimizer = optimizer
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0
        self._skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums of the epoch in progress, on the CPU."""
        sums = {name: value.cpu().as_subclass(torch.Tensor) for name, value in self._sums.items()}
        return {"sums": sums, "count": self._count, "skipped": self._skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on within the epoch."""
        self._sums, self._count, self._skipped = dict(state["sums"]), state["count"], state["skipped"]

    def attach(self, engine: Engine) -> None:
        """Follow a trainer whose output holds `loss`."""
        engine.add_event_handler(Events.STARTED, lambda _: self.tracker.start())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.tracker.finish("FINISHED"))
        on_failure(engine, lambda error: self.tracker.finish("KILLED" if was_stopped(error) else "FAILED"))

    def _add(self, engine: Engine) -> None:
        """Add up on the device: reading a number at each step would make a GPU wait."""
        output: Any = engine.state.output
        output = output[0] if isinstance(output, list) else output
        if output.get("skipped"):
            self._skipped += 1
            return
        loss = output["loss"]
        for name, value in {"loss": loss, **getattr(self.loss_function, "components", {})}.items():
            value = torch.as_tensor(value).detach()
            before = self._sums.get(name)
            self._sums[name] = value.clone() if before is None else before.to(value.device) + value
        self._count += 1

    def _log(self, engine: Engine) -> None:
        parts = gather(({name: float(value) for name, value in self._sums.items()}, self._count))
        skipped = {"skipped_batches": float(self._skipped)} if self._skipped else {}
        self._sums, self._count, self._skipped = {}, 0, 0
        count = sum(part_count for _, part_count in parts)
        names = parts[0][0]
        means = {f"train_{name}": sum(sums[name] for sums, _ in parts) / count for name in names}
        learned = getattr(self.loss_function, "learned_weights", {})
        variances = {f"log_variance_{name}": variance for name, (variance, _) in learned.items()}
        weights = {f"weight_{name}": weight for name, (_, weight) in learned.items()}
        groups = enumerate(self.optimizer.param_groups)
        rates = {f"lr_{group.get('name', number)}": float(group["lr"]) for number, group in groups}
        self.tracker.log_metrics(means | variances | weights | rates | skipped, engine.state.epoch)


class TrackValidation:
    """Logs an evaluator's metrics as `val_<name>` at the epoch they belong to.

    Args:
        tracker: where the numbers go.
        trainer: whose epoch is the step; None takes the evaluator's, which MONAI's ValidationHandler sets to the same.
    """

    def __init__(self, tracker: Tracker, trainer: Engine | None = None) -> None:
        self.tracker = tracker
        self.trainer = trainer

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._log)

    def _log(self, engine: Engine) -> None:
        numbers = {name: value for name, value in engine.state.metrics.items() if isinstance(value, int | float)}
        step = (self.trainer or engine).state.epoch
        self.tracker.log_metrics({f"val_{name}": value for name, value in numbers.items()}, step)
