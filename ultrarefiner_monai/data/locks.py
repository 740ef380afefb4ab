"""Locks between processes; one belongs to the process that holds it and goes with it, so that nothing stale is left."""

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: no advisory locks of this kind, so two processes are not told apart there
    fcntl = None  # type: ignore[assignment]


def lock(path: Path, wait: bool = True) -> IO[str]:
    """Open the file `path`, made with its folder where it is missing, and lock it until it is closed.

    Args:
        path: a file that holds nothing else.
        wait: for another process that has the lock.

    Raises:
        BlockingIOError: another process has the lock and this one does not wait.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file
