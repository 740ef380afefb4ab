"""Mistakes of users: the one exception that tells them, what it says, and how it ends a run."""

import errno
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

SHOWN_LETTERS = 200  # of another library's error: some of torch's fill a page
SHOWN_PROBLEMS = 20  # a line of twenty faults is still readable in a terminal; the rest is in `problems`

# What to do about a file that the operating system refuses, by its number; other errors of it are no user's mistake.
NEXT_STEPS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or name another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it accessible, or name another"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT), "name another, or make room for it"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), "name another"),
    errno.EIO: "check the disk, or name another",
}
# A loader hands an error of its workers over as the text of a traceback, of one that died the kind of its death.
OF_A_WORKER = re.compile(rf"^{__name__.partition('.')[0]}\.[\w.]+Error: (.+)$", re.MULTILINE)
DEAD_WORKER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (exited unexpectedly|is killed by signal: [^.]+)")

P = ParamSpec("P")
R = TypeVar("R")


class DataError(ValueError):
    """A mistake in the user's files or arguments, told in one line.

    `problems` holds every single fault where several were found at once.
    """

    problems: tuple[str, ...] = ()


class CodeError(DataError):
    """A file of data holds what a configuration's reader would run: never passed over, whatever else may be."""


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line of at most 200 letters; its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 1] + "…"


def refusal(error: OSError) -> str | None:
    """What an error of the operating system says of a file, in one line; None where it is about something else."""
    if error.errno not in NEXT_STEPS:
        return None
    name = error.filename2 or error.filename or "a file or standard output"
    return f"{name}: cannot be used ({error.strerror}); {NEXT_STEPS[error.errno]}"


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
    texts = list(map(str, names))
    head = separator.join(texts[:limit])
    return head if len(texts) <= limit else f"{head}{separator.rstrip(', ')} and {len(texts) - limit} more"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or all of them."""
    names: Sequence[str] = list(known)
    nearest = get_close_matches(name, names, n=1)
    return f"did you mean '{nearest[0]}'?" if nearest else f"expected one of {', '.join(names)}"


def mistake_in(error: BaseException) -> DataError | None:
    """The user's mistake, or the file that cannot be used, that an error of other libraries wraps; None where there is none.

    MONAI's transforms and configuration parser wrap what they call in errors of their own, and data workers pass text on. A
    worker that died is one too, as it was killed for the memory that it or others used.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DataError):
            return cause
        if isinstance(cause, OSError) and (reason := refusal(cause)) is not None:
            return DataError(reason)
        if found := OF_A_WORKER.findall(str(cause)):
            return DataError(found[-1])
        if dead := DEAD_WORKER.search(str(cause)):
            return DataError(
                f"a process that loads images {dead[1].replace('is killed', 'was killed')}, often for want of memory or "
                "shared memory; free some or set --workers 0, and go on with --resume true"
            )
        cause = cause.__cause__
    return None


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that name or wrap a user's mistake, or a file that cannot be used, into `SystemExit` with their message.

    `SystemExit` is the one exception that MONAI's configuration parser passes on untouched.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if (mistake := mistake_in(error)) is None:
                raise
            raise SystemExit(str(mistake)) from error

    return wrapped
