"""How far a training is, for a person at a terminal or for a log."""

import logging
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.handlers.failure import on_failure

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)

BAR: dict[str, Any] = {"mininterval": 0.5, "miniters": 1, "leave": False, "dynamic_ncols": True}


class Progress:
    """A log line an epoch, and a bar over the whole run where standard error is a terminal; rank 0 only.

    Both tell the loss and the time left. Log lines appear above the bar.

    Args:
        name: what is counted, such as "train"; shown in front.
    """

    def __init__(self, name: str = "train") -> None:
        self.name = name
        self._started = 0.0
        self._first_epoch = 0
        self._bar: tqdm | None = None
        self._terminal = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or an evaluator."""
        if not is_main():
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
        if sys.stderr.isatty():
            engine.add_event_handler(Events.STARTED, self._open)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
            engine.add_event_handler(Events.COMPLETED, lambda _: self._terminal.close())
            on_failure(engine, lambda _: self._terminal.close())

    def _start(self, engine: Engine) -> None:
        self._started, self._first_epoch = time.monotonic(), engine.state.epoch

    def _log(self, engine: Engine) -> None:
        epoch, epochs = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        spent = time.monotonic() - self._started
        done = max(epoch - self._first_epoch, 1)  # an epoch that was resumed at its very end is not counted
        left = spent / done * (epochs - epoch)
        loss = "".join(f"  {key} {value:.4f}" for key, value in _loss(engine.state.output).items())
        tail = "" if epochs == epoch else f", {duration(left)} left"
        logger.info("%s epoch %d/%d%s  (%s%s)", self.name, epoch, epochs, loss, duration(spent), tail)

    def _open(self, engine: Engine) -> None:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        state = engine.state
        total = (state.epoch_length or 0) * (state.max_epochs or 1)
        # No smoothing: the time left counts on validations, which come once an epoch.
        bar = tqdm(total=total, initial=state.iteration, desc=self.name, smoothing=0, **BAR)
        self._bar = self._terminal.enter_context(bar)
        self._terminal.enter_context(logging_redirect_tqdm())

    def _advance(self, engine: Engine) -> None:
        bar = self._bar
        if bar is None or not bar.update():  # true where it is time to draw: reading a loss makes a GPU wait
            return
        loss = {key: f"{value:.4f}" for key, value in _loss(engine.state.output).items()}
        bar.set_description(f"{self.name} epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)
        bar.set_postfix(loss, refresh=True)


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
