"""The one exception that tells users about a fault in their data."""

from collections.abc import Iterable

SHOWN_PROBLEMS = 20  # a line of twenty faults is still readable in a terminal; the rest is in `problems`


class DataError(ValueError):
    """A mistake in the user's files or arguments, told in one line.

    `problems` holds every single fault where several were found at once.
    """

    problems: tuple[str, ...] = ()


def raise_problems(subject: str, problems: Iterable[str]) -> None:
    """Raise one `DataError` that lists all `problems` of `subject`; do nothing when there is none."""
    found = tuple(problems)
    if not found:
        return
    rest = f"; and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    error = DataError(f"{subject}: {'; '.join(found[:SHOWN_PROBLEMS])}{rest}")
    error.problems = found
    raise error
