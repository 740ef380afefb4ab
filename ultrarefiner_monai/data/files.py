"""Writing files so that a reader, or a process killed half-way, never leaves half of one behind."""

import os
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write to a temporary name beside the file, flush to disk, rename; makes the folder.

    Several processes may write the same file: the last one to finish wins. The temporary name begins with a dot and
    ends in ``.tmp``, so nothing takes it for a result.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
