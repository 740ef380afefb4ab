"""What a file is and holds, before anything is taken from it: its kind, its hash, its name, its claims."""

import errno
import hashlib
import math
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    import numpy as np


def regular(path: Path) -> Path:
    """The path, unless a folder is there, or a pipe or device, of which reading may wait or go on for ever.

    Raises:
        OSError: it is one, or there is nothing.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return path


def without_folders(value: Any) -> Any:
    """The name of a file whose whole path is given; other values as they are."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
