"""A user's mistake ends in one line and exit status 1, not in a traceback."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ultrarefiner_monai.data.errors import DataError

P = ParamSpec("P")
R = TypeVar("R")


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that name a user's mistake into ``SystemExit`` with their message.

    ``SystemExit`` is the one exception that MONAI's configuration parser passes on untouched.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DataError as error:
            raise SystemExit(str(error)) from error

    return wrapped
