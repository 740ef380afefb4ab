"""The one exception that tells users about a fault in their data."""

from collections.abc import Iterable

SHOWN_LETTERS = 200  # of another library's error: some of torch's fill a page
SHOWN_PROBLEMS = 20  # a line of twenty faults is still readable in a terminal; the rest is in `problems`


class DataError(ValueError):
    """A mistake in the user's files or arguments, told in one line.

    `problems` holds every single fault where several were found at once.
    """

    problems: tuple[str, ...] = ()


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line of at most 200 letters; its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 1] + "…"


def raise_problems(subject: str, problems: Iterable[str]) -> None:
    """Raise one `DataError` that lists all `problems` of `subject`; do nothing when there is none."""
    found = tuple(problems)
    if not found:
        return
    rest = f"; and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    error = DataError(f"{subject}: {'; '.join(found[:SHOWN_PROBLEMS])}{rest}")
    error.problems = found
    raise error
