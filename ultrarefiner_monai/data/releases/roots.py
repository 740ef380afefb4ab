"""Where a manifest's files lie, and the way from an entry of the manifest to its file that leads nowhere else."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ultrarefiner_monai.errors import DataError, one_line

# What a user names: a release folder, a folder above it or an archive; of a combined data set also one for each name.
Location = str | Path | Mapping[str, str]

# Release folder; of a combined data set one folder a name, which the entries' paths start with.
Root = str | Path | Mapping[str, Path]

MADE = "ultrarefiner_masks"  # folder in a data set's root with the masks that `manifests build` has written
LETTERS = 1000  # of a path, which leaves room for the root's
LONGEST = 230  # bytes of a file's name: file systems take 255, and results add an ending, in the making 20 bytes
UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are no UTF-8


def unsafe(path: Any) -> str | None:
    """Say why a manifest path may not be used, or return None. Paths are relative to the dataset root, with `/`."""
    if not isinstance(path, str) or not path:
        return f"path {path!r} is not text"
    if "\0" in path or "\\" in path:
        return f"path {path!r} holds a NUL or a backslash"
    if PurePosixPath(path).is_absolute() or path[1:2] == ":":
        return f"path {path!r} is absolute"
    if UNPRINTABLE.search(path):
        return f"path {path!r} holds a control character or bytes that are no UTF-8"
    if len(path) > LETTERS:
        return f"path '{path[:40]}...' has more than {LETTERS} letters"
    if ".." in PurePosixPath(path).parts:
        return f"path {path!r} leaves the dataset root"
    if not (parts := PurePosixPath(path).parts):
        return f"path {path!r} names no file"
    if any(len(part.encode()) > LONGEST for part in parts):
        return f"path '{path[:40]}...' holds a name of more than {LONGEST} bytes"
    return None


def resolve(root: Root, relative: str) -> Path:
    """Path of a manifest entry under `root`; `DataError` when it is unsafe or a link leads out of the root."""
    if fault := unsafe(relative):
        raise DataError(f"{fault}: expected a path below {root}")
    if isinstance(root, Mapping):
        name, _, relative = relative.partition("/")
        if name not in root:
            raise DataError(f"path {name}/{relative}: expected it to start with one of {', '.join(root)}")
        root = root[name]
    path = Path(root) / relative
    try:
        end = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise DataError(f"{path}: cannot be followed ({one_line(error)}); copy the file into the root") from None
    if not end.is_relative_to(Path(root).resolve()):
        raise DataError(f"{path}: a link leads out of the dataset root to {end}; copy the file into the root")
    return path


def within(root: Path, path: Path) -> Path:
    """A path that was found below `root`; `DataError` when its name is unsafe or a link leads out of the root."""
    return resolve(root, path.relative_to(root).as_posix())


def folders_of(root: Root) -> dict[str, Path]:
    """Release folders of a root by the prefix of their entries' paths ("" for a single data set)."""
    if isinstance(root, Mapping):
        return {f"{name}/": folder for name, folder in root.items()}
    return {"": Path(root)}
