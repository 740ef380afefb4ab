"""Work in a process of its own that has imported everything already: a fork of the tests'."""

import os
import resource
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CRASHED = 70  # the exit status of a process that ended in a traceback


@dataclass(frozen=True)
class Done:
    """What a process came to: its exit status (negative: a signal) and what it said."""

    code: int
    out: str
    err: str


def forked(
    work: Callable[[], object],
    cwd: Path,
    limit: int | None = None,
    stdout: str | None = None,
    environment: dict[str, str] | None = None,
) -> Done:
    """Do `work` in a fork of this process.

    Args:
        work: what to do.
        cwd: its working directory.
        limit: the most bytes that a file it writes may have (RLIMIT_FSIZE).
        stdout: file that takes the place of standard output.
        environment: variables that it has besides.
    """
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()  # which a limit on files leaves alone
    child = os.fork()
    if child == 0:
        os.chdir(cwd)
        os.environ.update(environment or {})
        _become(work, limit, out_end if stdout is None else os.open(stdout, os.O_WRONLY), err_end)
    os.close(out_end)
    os.close(err_end)
    with ThreadPoolExecutor() as pool, os.fdopen(out) as told, os.fdopen(err, errors="replace") as said:
        texts = [reading.result() for reading in [pool.submit(told.read), pool.submit(said.read)]]
    return Done(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *texts)


def _become(work: Callable[[], object], limit: int | None, out: int, err: int) -> None:
    """Make this process the work; never returns."""
    code = CRASHED
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1 if error.code else 0
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
