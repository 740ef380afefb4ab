"""A file's own SHA-256 at its end: some flipped bytes of a zip file's directory pass its checksums and load as other numbers.

The seal is the comment that a zip file may end with (PKWARE's APPNOTE 4.3.16), so that any reader of zip files, torch.load
too, reads a sealed file as it reads others.
"""

import hashlib
import struct
from pathlib import Path
from typing import IO, Any

MARK = b"sha256:"
LENGTH = len(MARK) + 2 * hashlib.sha256().digest_size
FIELD = struct.Struct("<H")  # the comment's length, the last thing before it


class Sealed:
    """A file to write a zip file into, which is hashed on the way; `seal` ends it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._held = b""  # the last bytes, where the comment's length will stand

    def write(self, content: Any) -> int:
        """Write bytes, but for the last two so far."""
        whole = self._held + bytes(content)
        self._held = whole[-FIELD.size :]
        self._digest.update(whole[: -FIELD.size])
        self._file.write(whole[: -FIELD.size])
        return len(content)

    def flush(self) -> None:
        """Part of being a file."""

    def seal(self) -> None:
        """Write the comment: the hash of all before its length."""
        self._file.write(FIELD.pack(LENGTH) + MARK + self._digest.hexdigest().encode())


def has_broken_seal(path: Path) -> bool:
    """Whether a file's end says that it has another hash; files of earlier versions end without a seal, which is no fault."""
    size = path.stat().st_size - LENGTH
    if size < FIELD.size:
        return False
    with path.open("rb") as file:
        file.seek(size - FIELD.size)
        length, seal = file.read(FIELD.size), file.read()
        if not seal.startswith(MARK):
            return False
        file.seek(0)
        digest, left = hashlib.sha256(), size - FIELD.size
        while left and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
    return seal[len(MARK) :] != digest.hexdigest().encode() or length != FIELD.pack(LENGTH)
