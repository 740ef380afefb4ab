"""One training per output folder, and a clean end when it is told to stop."""

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from filelock import FileLock, Timeout
from ignite.engine import Engine, Events

from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import remove_partials
from ultrarefiner_monai.handlers.failure import is_failing, on_failure
from ultrarefiner_monai.models.weights import CheckpointError

logger = logging.getLogger(__name__)

# Seconds in which another signal is the same request come by another way: a terminal or SLURM tells every process, and so does
# torchrun its own.
SAME_S = 2.0

# Seconds that a stopped training has to end its step: SLURM kills 30 s after SIGTERM (KillWait), and saving takes some too.
STEP_S = 15


@contextmanager
def exit_codes(
    advice: str, ask: Callable[[int], None] | None = None, is_ending: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Let SIGINT and SIGTERM end what runs meanwhile as SystemExit with the shells' codes, 130 and 143.

    Once stopped, further signals of the next `SAME_S` seconds are ignored, so that what was stopped can end; a later one does
    what it did before. Only the main thread can do so; in others nothing changes.

    Args:
        advice: how to go on, for the log.
        ask: called with the signal's number in place of ending at once; what runs then ends by itself.
        is_ending: whether what runs is ending anyway, and a signal is as one that comes twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    stopped_at: list[float] = []

    def stop(number: int, _: FrameType | None) -> None:
        if ask is not None and os.getppid() == owner:  # a data worker, which the step in progress needs
            return
        if os.getpid() != owner:  # another child inherited this handler: behave as if it had not
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if is_ending() and not stopped_at:
            stopped_at.append(time.monotonic())
        if stopped_at:
            if time.monotonic() - stopped_at[0] >= SAME_S:
                put_back()
                os.kill(os.getpid(), number)
            return
        stopped_at.append(time.monotonic())
        logger.warning("stopped by %s; %s", signal.Signals(number).name, advice)
        if ask is None:
            raise SystemExit(128 + number)
        ask(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield
    finally:
        if not stopped_at and threading.current_thread() is threading.main_thread():
            put_back()


class RunGuard:
    """Locks the output folder of a trainer and turns SIGINT and SIGTERM into exit codes 130 and 143 while it runs.

    The folder is locked at once, before any other handler writes into it, and rid of what a killed writer has left. The lock
    belongs to the process and goes with it, however it ends; nothing stale is left.

    A signal is noted in `trainer.state.asked`, so that the step in progress can be completed and saved before `end` is called.
    What does not come to that in STEP_S seconds is ended where it is: the checkpoint before is complete on the disk.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self._folder = Path(output_dir)
        self._lock = FileLock(self._folder / ".lock", blocking=False)
        self._signals = ExitStack()
        self._trainer: Engine | None = None

    @property
    def asked(self) -> int:
        """Number of the signal that this process was told to stop by; 0 where there was none."""
        return getattr(self._trainer.state, "asked", 0) if self._trainer else 0

    def attach(self, trainer: Engine) -> None:
        """Lock the folder and guard every run of `trainer`.

        Raises `CheckpointError` where another training has the folder.
        """
        self._acquire()
        trainer.add_event_handler(Events.STARTED, self._enter)
        trainer.add_event_handler(Events.COMPLETED, self._complete)
        on_failure(trainer, self._leave, at_last=True)  # others are not to be cut short by a signal

    def end(self, number: int) -> NoReturn:
        """End the run as the signal `number` asks."""
        raise SystemExit(128 + number)

    def patiently(self) -> None:
        """Let what is being written be completed, however long it takes."""
        if self.asked:
            signal.alarm(0)

    def _enter(self, trainer: Engine) -> None:
        self._acquire()
        self._trainer = trainer
        vars(trainer.state)["asked"] = 0
        self._signals.enter_context(
            exit_codes("the step is completed and saved; --resume true goes on", self._ask, lambda: is_failing(trainer))
        )

    def _ask(self, number: int) -> None:
        vars(self._trainer.state)["asked"] = number  # type: ignore[union-attr]
        signal.signal(signal.SIGALRM, lambda *_: self.end(number))
        signal.alarm(STEP_S)

    def _complete(self, _: Engine) -> None:
        number = self.asked
        self._leave(None)
        if number:  # it came too late to be heeded by this training; what runs after it is meant too
            self.end(number)

    def _leave(self, _: BaseException | None) -> None:
        self.patiently()
        self._signals.close()
        self._lock.release()

    def _acquire(self) -> None:
        if self._lock.is_locked or not is_main():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._try_to_lock():
            return
        gc.collect()  # a workflow of this process that was dropped before it ran keeps its lock as long as its engines
        if not self._try_to_lock():
            raise CheckpointError(
                f"{self._folder} is in use by another training; wait for it or set another output_dir"
            )

    def _try_to_lock(self) -> bool:
        try:
            self._lock.acquire()
        except Timeout:
            return False
        remove_partials(self._folder)
        return True
