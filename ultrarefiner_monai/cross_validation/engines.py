"""Who does the tasks of a cross-validation: here this process, one after the other."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ultrarefiner_monai.errors import one_line_errors
from ultrarefiner_monai.handlers.progress import duration

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A piece of work that a process can do on its own, as often as it must.

    Args:
        name: unique among the tasks of a run.
        work: what is done; it can be pickled, and goes on where a process that died has left it.
        after: names of tasks that must be done before.
        gpu: whether it uses a GPU where there is one; such tasks are what a run spends its time with.
        result: what it came to, in a few words, once it is done.
    """

    name: str
    work: Callable[[], None]
    after: tuple[str, ...] = ()
    gpu: bool = False
    result: Callable[[], str] = str


class Engine(Protocol):
    """Does tasks."""

    def run(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Do `tasks`, each after those it names, which come before it in the sequence.

        A user's mistake keeps back the tasks that come after it and no others.

        Returns:
            The mistake, in one line, for each task that it has kept from being done; empty when all are done.

        Raises:
            Exception: a fault of the program, whatever its kind.
        """


class LocalEngine:
    """The tasks one after the other in this process."""

    def run(self, tasks: Sequence[Task]) -> dict[str, str]:
        """See `Engine`."""
        outcomes: dict[str, str | None] = {}
        started = time.monotonic()
        for task in tasks:
            if task.gpu:
                logger.info("%s begins", task.name)
            outcomes[task.name] = attempt(task.work, *(outcomes[name] for name in task.after))
            _tell(task, outcomes, tasks, started)
        return _mistakes(tasks, outcomes)


def attempt(work: Callable[[], None], *before: str | None) -> str | None:
    """Do `work` unless a mistake among the outcomes of the tasks `before` it keeps it back.

    Returns:
        None, or the mistake in one line.

    Raises:
        SystemExit: a signal has stopped the process: no mistake, and a reason for Ray to try again.
    """
    for mistake in before:
        if mistake is not None:
            return mistake
    try:
        one_line_errors(work)()
    except SystemExit as error:
        if not isinstance(error.code, str):
            raise
        return error.code
    return None


def _tell(task: Task, outcomes: dict[str, str | None], tasks: Sequence[Task], started: float) -> None:
    """Log what the task came to, and how long those that are left take if they take as long as those done since `started`."""
    mistake, place = outcomes[task.name], f"{len(outcomes)} of {len(tasks)}"
    if mistake is None:
        done = sum(one.gpu for one in tasks if one.name in outcomes)
        left = sum(one.gpu for one in tasks) - done
        seconds = (time.monotonic() - started) / max(done, 1) * left
        logger.info(
            "%s is done%s (%s%s)",
            task.name,
            f": {result}" if (result := task.result()) else "",
            place,
            f", about {duration(seconds)} left" if done and left else "",
        )
    elif mistake in [outcomes.get(name) for name in task.after]:
        logger.warning("%s is kept back (%s)", task.name, place)
    else:
        logger.error("%s is not done (%s): %s", task.name, place, mistake)


def _mistakes(tasks: Sequence[Task], outcomes: dict[str, str | None]) -> dict[str, str]:
    """The mistakes among the outcomes, in the order of the tasks."""
    found = {task.name: outcomes[task.name] for task in tasks}
    return {name: mistake for name, mistake in found.items() if mistake is not None}
