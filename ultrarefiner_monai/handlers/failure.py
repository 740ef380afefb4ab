"""What several handlers do when an engine's run fails."""

import logging
from collections.abc import Callable

from ignite.engine import Engine, Events

from ultrarefiner_monai.errors import mistake_in, refusal
from ultrarefiner_monai.peers import explained, peers

logger = logging.getLogger(__name__)

Action = Callable[[BaseException], None]


def on_failure(engine: Engine, action: Action, at_last: bool = False) -> None:
    """Call `action` once when an exception, a signal's included, ends a run of `engine`; the exception then goes on.

    Ignite swallows an exception that a handler has seen, a handler that raises it again keeps it from the ones after, and
    most exceptions come twice: hence one handler an engine for all actions, which are called in the order they were given,
    those `at_last` after all others.
    """
    if "failure" not in vars(engine):
        vars(engine)["failure"] = failure = _Failure()
        engine.add_event_handler(Events.EXCEPTION_RAISED, failure)
    failure = vars(engine)["failure"]
    (failure.last_actions if at_last else failure.actions).append(action)


def log_in_one_line(*engines: Engine) -> None:
    """Let the engines log what ends them in one line, not with the text of a data worker's traceback."""
    for engine in engines:
        engine.logger.addFilter(_one_line)


def _one_line(record: logging.LogRecord) -> bool:
    """Shorten ignite's "... is terminating due to exception: TEXT", where the text is a whole traceback."""
    head, line_break, rest = str(record.msg).partition("\n")
    if line_break:
        told = mistake_in(RuntimeError(rest))
        record.msg = f"{head.partition(': ')[0]}: {told}" if told else head
    return True


def is_failing(engine: Engine) -> bool:
    """Whether the actions of `on_failure` are being called, which a signal is not to interrupt."""
    failure = vars(engine).get("failure")
    return failure is not None and failure.is_acting


def fail(engine: Engine, error: BaseException) -> None:
    """Call the actions of `on_failure` for an error that the engine does not know of."""
    if "failure" in vars(engine):
        vars(engine)["failure"].act(error)


def was_stopped(error: BaseException) -> bool:
    """Whether a run was told to stop, by a signal, and has not failed."""
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and not isinstance(error.code, str))


def _try(action: Action, error: BaseException) -> None:
    """Call an action; a disk that refuses it keeps neither the others nor the first error back."""
    try:
        action(error)
    except OSError as refused:
        logger.warning("%s", refusal(refused) or refused)


class _Failure:
    """The actions of an engine, and the exception that they have been called for."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.last_actions: list[Action] = []
        self.is_acting = False
        self._seen: BaseException | None = None

    def __call__(self, _: Engine, error: BaseException) -> None:
        if error is self._seen:
            raise error
        self.is_acting = True
        cause = explained(error)
        told = mistake_in(cause) or cause
        self.act(told)
        if told is error:
            raise error
        raise told from error

    def act(self, error: BaseException) -> None:
        """Call all actions, and tell the other processes."""
        self._seen, self.is_acting = error, True
        try:
            if (group := peers()) is not None:
                group.note(error)
            for action in (*self.actions, *self.last_actions):
                _try(action, error)
        finally:
            self.is_acting = False
