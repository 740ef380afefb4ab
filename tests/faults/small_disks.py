"""File systems that are full or may only be read: real ones where this process may mount them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*words: object) -> bool:
    """Whether `mount` has done what the words say."""
    return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode == 0


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A file system in memory at `folder`; skips the test where it may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        pytest.skip("this user may not mount a file system; RLIMIT_FSIZE stands for a full one in another test")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, room: int = 0) -> Path:
    """Leave no more than `room` bytes free; the file that takes the space, to be removed by whoever frees it."""
    filler = disk / "filler"
    reserve = disk / "reserve"
    reserve.write_bytes(bytes(room))
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
    reserve.unlink()
    return filler


def make_read_only(disk: Path) -> None:
    """From now on nothing on the disk may be changed."""
    assert mount("-o", "remount,ro", disk)
