"""Child processes that need no imports again, and waiting for what they do without a clock."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest


def wait_for(path: Path, child: int) -> None:
    """Wait until a child has made a file, however slow the machine; AssertionError where the child ends before."""
    while not path.exists():
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended is None or path.exists(), f"{path} never appeared"
        threading.Event().wait(0.01)


def hang() -> None:
    """Do nothing until a signal ends it; a signal that comes just before `pause` would be waited for in vain."""
    while True:
        threading.Event().wait(0.05)


@pytest.fixture
def fork() -> Callable[[Callable[[], None]], int]:
    """Run a function in a child process (no imports again) and return its id; exits with SystemExit's code, 0 or 1."""

    def start(function: Callable[[], None]) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever libraries of earlier tests have set, such as Ray
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            function()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            os._exit(code)

    return start
