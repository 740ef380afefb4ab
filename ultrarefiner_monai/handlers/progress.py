"""How far a training is, for a person at a terminal or for a log."""

import logging
import sys
import time
from typing import Any

from ignite.engine import Engine, Events

from ultrarefiner_monai.handlers.distributed import is_main

logger = logging.getLogger(__name__)


class Progress:
    """A progress bar where standard error is a terminal, one log line an epoch otherwise; rank 0 only.

    Args:
        name: what is counted, such as "train"; shown in front.
    """

    def __init__(self, name: str = "train") -> None:
        self.name = name
        self._started = 0.0
        self._first_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or an evaluator."""
        if not is_main():
            return
        if sys.stderr.isatty():
            from ignite.handlers import ProgressBar

            ProgressBar(persist=False, desc=self.name).attach(engine, output_transform=_loss)
        else:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _start(self, engine: Engine) -> None:
        self._started, self._first_epoch = time.monotonic(), engine.state.epoch

    def _log(self, engine: Engine) -> None:
        epoch, epochs = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        spent = time.monotonic() - self._started
        left = spent / (epoch - self._first_epoch) * (epochs - epoch)
        loss = "".join(f"  {key} {value:.4f}" for key, value in _loss(engine.state.output).items())
        tail = "" if epochs == epoch else f", {duration(left)} left"
        logger.info("%s epoch %d/%d%s  (%s%s)", self.name, epoch, epochs, loss, duration(spent), tail)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _loss(output: Any) -> dict[str, float]:
    first = output[0] if isinstance(output, list) and output else output
    return {"loss": float(first["loss"].detach())} if isinstance(first, dict) and "loss" in first else {}
