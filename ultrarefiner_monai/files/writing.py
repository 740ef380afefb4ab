"""Files and folders that are written whole or not at all."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ultrarefiner_monai.errors import DataError

UNFINISHED = ".partial"  # ends the name of what is being written
STALE_S = 60.0  # without a write: no file that is being written


@contextmanager
def atomic_write(path: Path, mode: str = "wb", shared: bool = False, **open_arguments: Any) -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only once it is complete and on the disk; makes the folder.

    The bytes go to a hidden `.NAME.partial` in the same folder, are flushed and fsynced, and take the final name in one
    rename (POSIX `rename` is atomic within a file system). On any error the old file stays and the partial one goes;
    after a kill the leftover is simply overwritten by the next write, and nothing ever reads it.

    Args:
        path: the file.
        mode: as for `open`.
        shared: several processes may write this file at once; the last one to finish wins.
        open_arguments: as for `open`.

    Raises:
        OSError: the disk is full or the folder cannot be written to; it names `path`.
    """
    writer = f".{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{writer}{UNFINISHED}")
    with naming(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open(mode, **open_arguments) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def remove_partials(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`, which nobody else is writing to but by `shared` writes.

    Those of the latter, which tell their process, go once they are older than `STALE_S`.
    """
    for partial in folder.glob(f".*{UNFINISHED}"):
        is_shared = partial.name.removesuffix(UNFINISHED).rpartition(".")[2].isdigit()
        with suppress(OSError):
            if not is_shared or time.time() - partial.stat().st_mtime > STALE_S:
                partial.unlink()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder whose content appears in `folder` only once it is complete.

    It lies inside `folder`, or beside it where there is none yet. On any error `folder` stays as it was. What a killed
    process left is removed by the next one.

    Raises:
        OSError: the disk is full or the folder cannot be written to; it names `folder`.
    """
    partial = folder / UNFINISHED if folder.is_dir() else folder.with_name(f".{folder.name}{UNFINISHED}")
    with naming(folder, partial):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            _move(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Let a file or folder take its place, each in one rename; a folder that is there takes the content."""
    if not (source.is_dir() and target.is_dir()):
        source.replace(target)
        return
    for path in sorted(source.iterdir()):
        _move(path, target / path.name)


def is_free(folder: Path) -> bool:
    """Whether a folder is absent, or holds nothing but what a killed process left unfinished."""
    return not folder.exists() or (folder.is_dir() and all(path.name == UNFINISHED for path in folder.iterdir()))


@contextmanager
def naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Let an error of the operating system name `path`, where it names nothing, or what lies in `partial`."""
    try:
        yield
    except OSError as error:
        names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
        if error.errno is not None and (
            not names or (partial is not None and any(name.is_relative_to(partial) for name in names))
        ):
            error.filename, error.filename2 = str(path), None
        raise


def append_line(path: Path, text: str) -> None:
    """Add a line to a text file, whole or not at all; half a line that a killed process has left is ended first.

    Raises:
        OSError: the disk is full; it names `path`.
    """
    with naming(path), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        start = b"" if file.read(1) in (b"", b"\n") else b"\n"
        try:
            file.write(start + text.encode() + b"\n")
            file.flush()
        except OSError:
            os.truncate(path, end)
            raise


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` with `atomic_write`; several processes may write the same file."""
    with atomic_write(Path(path), shared=True) as file:
        file.write(content)


def write_output(what: str, path: str | Path, content: bytes) -> None:
    """Write a file that the user named with `write_atomically`.

    Raises `DataError`, which begins with `what` the file is, where it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{what} {path}: cannot be written ({reason}); free space or name another folder") from None


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; file systems that cannot sync a folder are left alone."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
