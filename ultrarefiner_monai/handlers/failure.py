"""What several handlers do when an engine's run fails."""

from collections.abc import Callable

from ignite.engine import Engine, Events

Action = Callable[[BaseException], None]


def on_failure(engine: Engine, action: Action) -> None:
    """Call `action` once when an exception, a signal's included, ends a run of `engine`; the exception then goes on.

    Ignite swallows an exception that a handler has seen, a handler that raises it again keeps it from the ones after, and
    most exceptions come twice: hence one handler an engine for all actions, which are called in the order they were given.
    """
    if "failure" not in vars(engine):
        vars(engine)["failure"] = failure = _Failure()
        engine.add_event_handler(Events.EXCEPTION_RAISED, failure)
    vars(engine)["failure"].actions.append(action)


def was_stopped(error: BaseException) -> bool:
    """Whether a run was told to stop, by a signal, and has not failed."""
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and not isinstance(error.code, str))


class _Failure:
    """The actions of an engine, and the exception that they have been called for."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self._seen: BaseException | None = None

    def __call__(self, _: Engine, error: BaseException) -> None:
        if error is not self._seen:
            self._seen = error
            for action in self.actions:
                action(error)
        raise error
