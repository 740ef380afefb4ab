"""Files: written whole or not at all, JSON in and out, their hash and their name."""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    import numpy as np

Plain = TypeVar("Plain", dict, list)
KINDS: dict[type, str] = {dict: "object", list: "list"}


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
        OSError: the disk is full or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f".{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{writer}.partial")
    try:
        with partial.open(mode, **open_arguments) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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


def without_folders(value: Any) -> Any:
    """The name of a file whose whole path is given; other values as they are."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; file systems that cannot sync a folder are left alone."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def json_text(content: Any, indent: int = 1) -> str:
    """Plain values as strict JSON; numbers that are not finite become null.

    Halves of surrogate pairs, which UTF-8 does not have, are written as JSON's escapes and read back as they were.
    """
    text = json.dumps(finite(content), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode() + "\n"


def write_json(path: str | Path, content: Any, indent: int = 1) -> None:
    """Write plain values with `json_text` and `write_atomically`."""
    write_atomically(path, json_text(content, indent).encode())


def read_json(path: str | Path, kind: type[Plain], advice: str) -> Plain:
    """The content of a JSON file.

    Args:
        path: the file.
        kind: what it must hold: dict or list.
        advice: the next step, for the error.

    Raises:
        DataError: it is absent, unreadable, no JSON, or of another kind.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({one_line(error)}); {advice}") from None
    if not isinstance(content, kind):
        raise DataError(f"{path}: expected a JSON {KINDS[kind]}, found {type(content).__name__}; {advice}")
    return content


def json_or_empty(path: str | Path, kind: type[Plain]) -> Plain:
    """The content of a JSON file, an empty dict or list where it is absent, unreadable or of another kind."""
    try:
        return read_json(path, kind, "")
    except DataError:
        return kind()


def check_claims(path: Path) -> None:
    """Raise `BadZipFile` where a zip's entries claim to hold more than twice the file's bytes.

    Numbers hardly shrink, and `torch.save` and `np.savez` lay them side by side as they are: what claims more is damaged, or
    made to fill the memory.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > 2 * size:
        raise zipfile.BadZipFile(f"entries of {claimed} bytes in a file of {size}")


def read_npz(path: Path) -> "dict[str, np.ndarray]":
    """The arrays of a file as `np.savez` writes it; nothing in it is unpickled, and their sizes are checked before they are read.

    Raises:
        FileNotFoundError: there is none.
        DataError: damaged, arrays of objects, or more than the file can hold.
    """
    import numpy as np
    from numpy.lib import format as npy

    arrays = {}
    try:
        check_claims(path)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = npy.read_magic(file)
                    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
                    shape, fortran, dtype = header(file)
                    content = file.read()  # to its end, where zipfile compares the checksum
                if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content):
                    raise ValueError(f"{entry.filename} is no array of {dtype} of shape {shape}")
                array = np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if fortran else "C")
                arrays[entry.filename.removesuffix(".npy")] = array
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may fail in any way at all
        raise DataError(f"{path}: not a sound file of arrays ({one_line(error)})") from None
    return arrays


def finite(value: Any, instead: Any = None) -> Any:
    """A copy of plain values, nested or not, with `instead` for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(part, instead) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part, instead) for part in value]
    return instead if isinstance(value, float) and not math.isfinite(value) else value
