"""Several handlers see a failure, and it still ends the run."""

import pytest
from ignite.engine import Engine

from ultrarefiner_monai.handlers.failure import on_failure, was_stopped


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(143)])
def test_all_actions_are_called_in_order_and_the_error_goes_on(error):
    def fail(engine, batch):
        raise error

    engine, seen = Engine(fail), []
    on_failure(engine, lambda found: seen.append(("first", found)))
    on_failure(engine, lambda found: seen.append(("second", found)))
    with pytest.raises(type(error)):
        engine.run([0])
    assert seen == [("first", error), ("second", error)]


def test_engines_do_not_share_actions():
    engines, seen = [Engine(lambda engine, batch: 1 / 0) for _ in range(2)], []
    for number, engine in enumerate(engines):
        on_failure(engine, lambda error, number=number: seen.append(number))
    with pytest.raises(ZeroDivisionError):
        engines[1].run([0])
    assert seen == [1]


@pytest.mark.parametrize(
    ("error", "stopped"),
    [(KeyboardInterrupt(), True), (SystemExit(130), True), (SystemExit("no file"), False), (OSError("full"), False)],
)
def test_a_signal_is_told_from_a_mistake(error, stopped):
    assert was_stopped(error) is stopped
