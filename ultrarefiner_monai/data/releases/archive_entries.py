"""The entries of zip and tar archives in one form, read one after the other and with nothing unpacked."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ultrarefiner_monai.errors import DataError

ENCRYPTED, LINK, SPECIAL = "is encrypted", "is a link", "is a device or another special file"
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # of an archive with files, and of one without (APPNOTE 4.3.7 and 4.3.16)
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
MAX_DIRECTORY = 10 * 1024**2  # bytes of a zip's list of entries, which take 100 each; those of 100 000 files
MAX_HEADER = 1024**2  # bytes of such a header, which `tarfile` reads into memory; they hold names, of under 4 KB


@dataclass(frozen=True)
class Entry:
    """One file or folder of an archive.

    `name` is as stored; `size` the bytes it declares; `fault` says what it is where a release has no such thing, else
    "". `open` gives its bytes, and may be called until the next entry is read.
    """

    name: str
    size: int
    is_folder: bool
    fault: str
    open: Callable[[], IO[bytes]]

    @property
    def path(self) -> str:
        """Relative path with `/`, whatever the archive uses, and without `.` parts."""
        return PurePosixPath(self.name.replace("\\", "/")).as_posix()


def entries(archive: Path) -> Iterator[Entry]:
    """Entries of a zip or (compressed) tar archive in its order.

    Raises `DataError` where the file is neither; damage raises what `zipfile` and `tarfile` raise.
    """
    with archive.open("rb") as file:
        is_zip = file.read(4) in ZIP_MAGIC
    return _zip_entries(archive) if is_zip else _tar_entries(archive)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with _Bounded(io.FileIO(archive)) as stream, zipfile.ZipFile(stream) as file:
        for info in file.infolist():
            name = info.orig_filename  # `filename` ends at a NUL
            kind = stat.S_IFMT(info.external_attr >> 16)  # the Unix mode; 0 where another system packed it
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            fault = ENCRYPTED if info.flag_bits & 1 else "" if plain else LINK if stat.S_ISLNK(kind) else SPECIAL
            is_folder = name.replace("\\", "/").endswith("/")
            yield Entry(name, info.file_size, is_folder, fault, partial(file.open, info))


def _tar_entries(archive: Path) -> Iterator[Entry]:
    try:
        file = tarfile.open(archive, "r:*", tarinfo=_Header)  # noqa: SIM115 - closed below
    except tarfile.ReadError:
        raise DataError(
            f"archive {archive}: expected zip, tar, tar.gz, tar.bz2 or tar.xz, found another kind of file or a"
            " damaged one; download it again, or unpack it yourself and name the folder"
        ) from None
    with file:
        for member in file:
            plain = member.isdir() or (member.isfile() and not member.issparse())
            fault = "" if plain else LINK if member.issym() or member.islnk() else SPECIAL
            yield Entry(member.name, member.size, member.isdir(), fault, partial(file.fileobject, file, member))
        if file.fileobj:
            file.fileobj.read(MAX_HEADER)  # to the end of the padding, where gzip compares its checksum


class _Bounded(io.BufferedReader):
    """File that gives no more than MAX_DIRECTORY bytes at once: `zipfile` asks for a zip's whole list of entries."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a list of entries of {size} bytes")
        return super().read(size)


class _Header(tarfile.TarInfo):
    """Header that raises where it is damaged: `tarfile` would take that for the archive's end and drop the rest."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not buf.strip(b"\0"):  # the zeros that end an archive
                raise
            raise tarfile.ReadError(str(error)) from None
        if header.size < 0 or (header.type in EXTENDED and header.size > MAX_HEADER):
            raise tarfile.ReadError(f"header of {header.size} bytes")
        return header
