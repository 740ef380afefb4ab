"""Releases in the archives they are handed out in, zip or tar, unpacked safely into a cache.

An archive is not trusted. All its entries are checked before the first byte is written, and no more is written than
they declare. An unpacked archive appears in the cache complete or not at all, and is used again by the next call.
"""

import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.archive_entries import Entry, entries
from ultrarefiner_monai.data.releases.fact_cache import cache_folder
from ultrarefiner_monai.data.releases.roots import UNPRINTABLE, unsafe
from ultrarefiner_monai.errors import DataError, one_line, raise_problems
from ultrarefiner_monai.files import file_sha256, json_or_empty, write_json

MAX_ENTRIES = 100_000  # the largest release has 3 754 files
MAX_BYTES = 4 * 1024**3  # when unpacked; the largest release is under 1 GB
MAX_RATIO = 100  # unpacked to packed size: images reach 3, tables 10; a bomb reaches deflate's limit of 1 032
BLOCK = 1024**2  # bytes copied at a time
KEY_DIGITS = 16  # of the archive's SHA-256: 64 bits never meet by chance
STALE = 24 * 3600  # s; unpacking takes minutes, so an older partial folder is a killed process's
JUNK = (".ds_store", "thumbs.db", "desktop.ini")  # what file managers leave behind, in lower case
JUNK_FOLDER = "__macosx"  # macOS's resource forks

FILES, CONTENTS = "files", "contents.json"  # in a folder of the cache: what was unpacked, and sizes by path

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a zip method that `zipfile` does not know
    RecursionError,  # headers that continue each other without end
    MemoryError,  # a decoder that is asked for a dictionary of gigabytes
    ValueError,  # names or numbers that cannot be decoded
)


def unpacked(archive: str | Path, cache: str | Path | None = None) -> Path:
    """Folder with the files of a zip, tar, tar.gz, tar.bz2 or tar.xz archive, unpacked now or by an earlier call.

    Resource forks of macOS and the like are left out; the backslashes of some Windows archives become folders.

    Args:
        archive: the archive's file.
        cache: folder that holds one folder an archive, named after its SHA-256; None is the user's cache folder.

    Raises:
        DataError: the file is no complete archive, the disk is full, or the archive holds anything that a release
            does not: names that lead out of the folder, links, devices, encrypted or repeated files, or too much.
    """
    archive = Path(archive)
    store = cache_folder() / "archives" if cache is None else Path(cache)
    if not archive.is_file():
        raise DataError(f"archive {archive}: no such file; name a zip or tar archive, or the folder of the release")
    try:
        folder = store / file_sha256(archive)[:KEY_DIGITS]
        if not _complete(folder):
            _install(archive, folder)
    except DataError:
        raise
    except (OSError, *_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            fault = f"cannot be unpacked into {store}: {error.strerror} ({error.filename or store}); make room there,"
            fault += " or let XDG_CACHE_HOME name another folder"
        else:
            fault = f"damaged, incomplete or packed in an unknown way ({one_line(error)}); download it again,"
            fault += " or unpack it yourself and name the folder"
        raise DataError(f"archive {archive}: {fault}") from None
    return folder / FILES


def contents(archive: Path) -> dict[str, int]:
    """Size in bytes of each file of an archive by its path, in the archive's order.

    Raises one `DataError` listing everything that forbids unpacking it; nothing is written.
    """
    packed = archive.stat().st_size
    limit = min(MAX_BYTES, MAX_RATIO * packed)
    found: list[Entry] = []
    size = 0
    for entry in entries(archive):
        found.append(entry)
        size += entry.size
        fault = f"more than {MAX_ENTRIES} entries, which no release has" if len(found) > MAX_ENTRIES else ""
        if size > limit:
            fault = f"unpacks to more than {limit / 1e6:.1f} MB, which no release of {packed / 1e6:.1f} MB does"
        if fault:
            raise DataError(f"archive {archive}: {fault}; check its source")
    raise_problems(f"archive {archive}", _faults(found))
    files = {entry.path: entry.size for entry in found if not entry.is_folder and not _is_junk(entry.path)}
    if not files:
        raise DataError(f"archive {archive}: holds no files; download it again")
    return files


def _faults(found: list[Entry]) -> Iterator[str]:
    """What forbids unpacking; names that differ only in case count as one, as some file systems mix them up."""
    keys = [PurePosixPath(entry.path.casefold()) for entry in found]
    files = Counter(key for entry, key in zip(found, keys, strict=True) if not entry.is_folder)
    for entry, key in zip(found, keys, strict=True):
        if entry.fault or UNPRINTABLE.search(entry.name):
            yield f"{entry.name!r} {entry.fault or 'is no printable name'}"
        elif not (entry.is_folder and entry.path == ".") and (fault := unsafe(entry.name.replace("\\", "/"))):
            yield fault
        elif not entry.is_folder and files[key] > 1:
            yield f"{entry.name!r} occurs twice"
        if not files.keys().isdisjoint(key.parents):
            yield f"{entry.name!r} lies in a file"


def _is_junk(path: str) -> bool:
    *folders, name = path.casefold().split("/")
    return JUNK_FOLDER in folders or name.startswith("._") or name in JUNK


def _complete(folder: Path) -> bool:
    """Whether a folder of the cache holds all it once did, as tidied caches and those on scratch disks may not."""
    files = json_or_empty(folder / CONTENTS, dict)
    try:
        return bool(files) and all((folder / FILES / path).stat().st_size == size for path, size in files.items())
    except (OSError, ValueError):  # ValueError: a NUL in a path
        return False


def _install(archive: Path, folder: Path) -> None:
    """Unpack into a hidden folder of the same cache, which takes the name `folder` once it is complete."""
    files = contents(archive)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob(".*.partial"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE:
                shutil.rmtree(old)
    partial = Path(tempfile.mkdtemp(".partial", f".{folder.name}.", folder.parent))
    try:
        _write_files(archive, files, partial / FILES)
        write_json(partial / CONTENTS, files)
        if not _complete(partial):
            raise DataError(
                f"archive {archive}: files are shorter than declared or changed meanwhile; download it again"
            )
        if hasattr(os, "sync"):  # on the disk before they are taken for complete, where the platform can
            os.sync()
        try:
            partial.rename(folder)
        except OSError:
            if not _complete(folder):  # what is left of one; a complete one is a faster process's
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_files(archive: Path, files: dict[str, int], folder: Path) -> None:
    from tqdm import tqdm

    total = sum(files.values())
    with tqdm(total=total, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=None) as bar:
        for entry in entries(archive):
            if entry.path in files and not (entry.fault or entry.is_folder):
                bar.update(_write_file(entry, files[entry.path], folder / entry.path))


def _write_file(entry: Entry, size: int, path: Path) -> int:
    """Write at most `size` bytes, whatever the entry holds; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with entry.open() as source, path.open("xb") as target:
        while block := source.read(BLOCK):
            written += len(block)
            if written > size:
                raise DataError(f"archive entry {entry.name!r}: declares {size} bytes and holds more; check its source")
            target.write(block)
    return written
