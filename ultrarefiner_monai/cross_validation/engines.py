"""Who does the tasks of a cross-validation: here this process, one after the other."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ultrarefiner_monai.errors import one_line_errors

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A piece of work that a process can do on its own, as often as it must.

    Args:
        name: unique among the tasks of a run.
        work: what is done; it can be pickled, and goes on where a process that died has left it.
        after: names of tasks that must be done before.
        gpu: whether it uses a GPU where there is one.
    """

    name: str
    work: Callable[[], None]
    after: tuple[str, ...] = ()
    gpu: bool = False


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
        for task in tasks:
            outcomes[task.name] = attempt(task.work, *(outcomes[name] for name in task.after))
            _tell(task, outcomes, len(tasks))
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


def _tell(task: Task, outcomes: dict[str, str | None], count: int) -> None:
    """Log what the task came to."""
    mistake, number = outcomes[task.name], len(outcomes)
    if mistake is None:
        logger.info("%s is done (%d of %d)", task.name, number, count)
    elif mistake in [outcomes.get(name) for name in task.after]:
        logger.warning("%s is kept back (%d of %d)", task.name, number, count)
    else:
        logger.error("%s is not done (%d of %d): %s", task.name, number, count, mistake)


def _mistakes(tasks: Sequence[Task], outcomes: dict[str, str | None]) -> dict[str, str]:
    """The mistakes among the outcomes, in the order of the tasks."""
    found = {task.name: outcomes[task.name] for task in tasks}
    return {name: mistake for name, mistake in found.items() if mistake is not None}
