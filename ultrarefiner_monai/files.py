"""Files: written whole or not at all, JSON in and out, their hash and their name."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ultrarefiner_monai.errors import SHOWN_PROBLEMS, CodeError, DataError, one_line, shown
from ultrarefiner_monai.schemas import Schema, brief, fault_in, problems

if TYPE_CHECKING:
    import numpy as np

Plain = TypeVar("Plain", dict, list)
UNFINISHED = ".partial"  # ends the name of what is being written
STALE_S = 60.0  # without a write: no file that is being written
KINDS: dict[type, str] = {dict: "object", list: "list"}
# The manifest of 100 000 images (600 bytes and 15 values each); what is within them is read in two seconds and 512 MiB.
MAX_BYTES, MAX_VALUES = 64 * 2**20, 1_500_000
OTHERS = 4  # times as much of the files of others: the outlines of a large data set in COCO's form


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


def remove_partials(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`, which nobody else is writing to but by `shared` writes.

    Those of the latter, which tell their process, go once they are older than `STALE_S`.
    """
    for partial in folder.glob(f".*{UNFINISHED}"):
        is_shared = partial.name.removesuffix(UNFINISHED).rpartition(".")[2].isdigit()
        with suppress(OSError):
            if not is_shared or time.time() - partial.stat().st_mtime > STALE_S:
                partial.unlink()


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


def regular(path: Path) -> Path:
    """The path, unless a pipe or device is there, of which reading may wait or go on for ever.

    Raises:
        OSError: it is one, or there is nothing.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))
    return path


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


def read_json(
    path: str | Path, kind: type[Plain], advice: str, schema: Schema | None = None, code: bool = False
) -> Plain:
    """The content of a JSON file.

    Args:
        path: the file.
        kind: what it must hold: dict or list.
        advice: the next step, for the error.
        schema: what its parts must be.
        code: whether texts that MONAI would run, and NaN, may stand in it, as in its configurations and in the files of others,
            of which only named parts are taken.

    Raises:
        DataError: it is absent, unreadable, no JSON, of another kind, or does not fit the schema.
        CodeError: it holds code and must not.
    """
    try:
        content = parse_json(bytes_of(Path(path)), code)
    except CodeError as error:
        raise CodeError(f"{path}: {error}; {advice}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({one_line(error)}); {advice}") from None
    if not isinstance(content, kind):
        raise DataError(f"{path}: expected a JSON {KINDS[kind]}, found {type(content).__name__}; {advice}")
    if schema is not None and (wrong := list(problems(content, schema))):
        raise DataError(f"{path}: {shown(wrong, SHOWN_PROBLEMS, '; ')}; {advice}")
    return content


def json_or_empty(path: str | Path, kind: type[Plain], schema: Schema | None = None, code: bool = False) -> Plain:
    """The content of a JSON file, an empty dict or list where it is absent, unreadable or does not fit; see `read_json`.

    Raises:
        CodeError: it holds code and must not.
    """
    try:
        return read_json(path, kind, "", schema, code)
    except CodeError:
        raise
    except DataError:
        return kind()


def parse_json(content: bytes, code: bool = False) -> Any:
    """JSON in UTF-8 as plain values, within limits that keep what it costs small.

    Raises:
        ValueError: no JSON, too large, too deep, a key twice, numbers that are not finite, or texts that are none.
        CodeError: as `read_json`.
    """
    share = OTHERS if code else 1
    if len(content) > share * MAX_BYTES:
        raise ValueError(f"more than {share * MAX_BYTES // 2**20} MiB")
    if sum(map(content.count, (b",", b"[", b"{"))) > share * MAX_VALUES:
        raise ValueError(f"more than {share * MAX_VALUES:,} values")
    value = json.loads(
        content.decode("utf-8"), parse_constant=float if code else _no_number, object_pairs_hook=_without_doubles
    )
    if found := fault_in(value, code):
        where = f"{found[0]}: " if found[0] else ""
        raise (CodeError if found[1].endswith("as code") else ValueError)(f"{where}{found[1]}")
    return value


def bytes_of(path: Path) -> bytes:
    """The bytes of a file, one more than there may be at most; ValueError where it is a folder, a pipe or a device."""
    if not path.is_file() and path.exists():
        raise ValueError("not a file")
    with path.open("rb") as file:
        return file.read(OTHERS * MAX_BYTES + 1)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {brief(doubled)} stands there twice")
    return found


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
