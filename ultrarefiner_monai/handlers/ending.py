"""What several handlers do when an engine's run fails."""

from collections.abc import Callable

from ignite.engine import Engine, Events

Action = Callable[[BaseException], None]


def on_failure(engine: Engine, action: Action) -> None:
    """Call `action` when an exception, a signal's included, ends a run of `engine`; the exception then goes on.

    Ignite swallows an exception that a handler has seen, and a handler that raises it again keeps it from the ones after:
    hence one handler an engine for all actions, which come in the order in which they were given.
    """
    actions: list[Action] = vars(engine).setdefault("failure_actions", [])
    if not actions:
        engine.add_event_handler(Events.EXCEPTION_RAISED, _act, actions)
    actions.append(action)


def was_stopped(error: BaseException) -> bool:
    """Whether a run was told to stop, by a signal, and has not failed."""
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and not isinstance(error.code, str))


def _act(_: Engine, error: BaseException, actions: list[Action]) -> None:
    for action in actions:
        action(error)
    raise error
