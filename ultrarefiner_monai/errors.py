"""Mistakes of users: the one exception that tells them, what it says, and how it ends a run."""

import functools
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from ultrarefiner_monai.texts import printable

SHOWN_LETTERS = 200  # of another library's error: some of torch's fill a page
SHOWN_PROBLEMS = 20  # a line of twenty faults is still readable in a terminal; the rest is in `problems`
MOST_LETTERS, END = 2000, 500  # of an error: what it quotes may be of any length; the next step stands at the end

P = ParamSpec("P")
R = TypeVar("R")


class DataError(ValueError):
    """A mistake in the user's files or arguments, told in one line: what it quotes of them is made printable.

    `problems` holds every single fault where several were found at once.
    """

    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - END]} … {text[3 - END :]}"


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line of at most 200 letters; its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 1] + "…"


def raise_problems(subject: str, problems: Iterable[str]) -> None:
    """Raise one `DataError` that lists all `problems` of `subject`; do nothing when there is none."""
    found = tuple(problems)
    if not found:
        return
    error = DataError(f"{subject}: {shown(found, SHOWN_PROBLEMS, '; ')}")
    error.problems = found
    raise error


def shown(names: Iterable[object], limit: int, separator: str = ", ") -> str:
    """The first `limit` of the names in one line, and how many more there are."""
    texts = [printable(str(name)) for name in names]
    head = separator.join(texts[:limit])
    return head if len(texts) <= limit else f"{head}{separator.rstrip(', ')} and {len(texts) - limit} more"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or all of them."""
    names: Sequence[str] = list(known)
    nearest = get_close_matches(name, names, n=1)
    return f"did you mean '{nearest[0]}'?" if nearest else f"expected one of {', '.join(names)}"


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that name a user's mistake into `SystemExit` with their message.

    `SystemExit` is the one exception that MONAI's configuration parser passes on untouched.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DataError as error:
            raise SystemExit(str(error)) from error

    return wrapped
