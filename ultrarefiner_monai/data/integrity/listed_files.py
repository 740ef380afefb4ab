"""Reading one listed file once: its hash and its image, or the reason why there is none."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.data.decoding import decode
from ultrarefiner_monai.data.faults import Problem
from ultrarefiner_monai.data.images import Size, to_alpha, to_planes
from ultrarefiner_monai.data.releases.roots import Root, resolve, unsafe
from ultrarefiner_monai.errors import DataError

# Bytes that a complete file of a format holds, by those it starts with: PNG's IEND chunk with its checksum (ISO 15948,
# 11.2.5) and JPEG's EOI marker (ITU-T T.81, B.1.1.3). Pillow reads a file whose last bytes were lost without complaint.
END_MARKS = {b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}

AGAIN = "copy it again from the release"


@dataclass
class Reading:
    """What a listed file holds.

    `path` is the manifest's; `changed` says that the bytes are not those the manifest knows; `size` is (width, height)
    in pixels, `planes` are the stored values (height, width, channels) without `alpha` (height, width), which few files
    have. Without an image, `problem` is the reason and `size` is (0, 0).
    """

    path: str
    changed: bool = False
    size: Size = (0, 0)
    planes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 1), np.uint8))
    alpha: np.ndarray | None = None
    problem: Problem | None = None


def read_listed(root: Root, path: str, sha256: str | None, decoded: bool = True) -> Reading:
    """Read the file `path` of a manifest under `root`, whose hash is to be `sha256` where that is known.

    Without `decoded` its content is hashed and not looked at.
    """
    try:
        file = resolve(root, path)
        if not file.is_file():
            return Reading(path, problem=Problem("missing", "missing"))
        content = file.read_bytes()
    except (DataError, RuntimeError):  # the latter is pathlib's for links that lead to each other
        return Reading(path, problem=Problem("unsafe_path", _why_outside(root, path)))
    except OSError as error:
        return Reading(path, problem=Problem("unreadable", f"cannot be read ({error.strerror or error})"))
    changed = sha256 not in (None, hashlib.sha256(content).hexdigest())
    if problem := _incomplete(content):
        return Reading(path, changed, problem=problem)
    return _decoded(Reading(path, changed), content) if decoded else Reading(path, changed)


def _why_outside(root: Root, path: str) -> str:
    """Why a manifest's path leads nowhere under `root`."""
    if isinstance(root, Mapping) and path.partition("/")[0] not in root:
        return f"path {path!r} starts with none of {', '.join(root)}"
    return unsafe(path) or "a link leads out of the dataset root; copy the file into the root"


def _incomplete(content: bytes) -> Problem | None:
    if not content:
        return Problem("empty", f"empty (0 bytes); {AGAIN}")
    for start, end in END_MARKS.items():
        if content.startswith(start) and end not in content:
            return Problem("truncated", f"truncated after {len(content)} bytes; {AGAIN}")
    return None


def _decoded(reading: Reading, content: bytes) -> Reading:
    """The reading with its image; any failure of a decoder becomes its problem."""
    try:
        with decoding(reading.path, "an image", AGAIN):
            image = decode(BytesIO(content), reading.path)
            reading.size, reading.planes, reading.alpha = image.size, to_planes(image), to_alpha(image)
    except DataError as error:
        reason = str(error).removeprefix(f"{reading.path}: ")
        reading.problem = Problem("truncated" if "truncated" in reason else "unreadable", reason)
    return reading
