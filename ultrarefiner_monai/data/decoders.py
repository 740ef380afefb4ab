"""Other libraries' decoders of files that anybody may have made: what they may be asked for, and what comes of their errors.

Sizes are taken from headers and checked before a pixel is decoded, since a file of a kilobyte can claim a gigabyte.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ultrarefiner_monai.errors import DataError, one_line

# The formats that are read, in Pillow's words, by suffix. Pillow would open some forty, one of them by running Ghostscript.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
VARIABLE = "ULTRAREFINER_MAX_PIXELS"  # of the environment
MAX_PIXELS = 4096 * 4096  # of a picture: twice a screen of 3840 x 2160, the largest that scanners fill
MAX_SIDE = 32767  # pixels: what NIfTI-1 counts, which probability maps are written in
# Of all frames together, beyond MAX_PIXELS: grey JPEG at its lowest quality holds a blank frame at 85 (6 bits a block of 64).
PIXELS_PER_BYTE = 100
BYTES_PER_PIXEL = 8  # at most: float64, or 16-bit colours
MAX_SCANS = 100  # of a progressive JPEG, each of which costs a pass over the picture; encoders make 10


def max_pixels() -> int:
    """The most pixels a picture may have, from the environment where that says something.

    Raises:
        DataError: it says no whole number above 0.
    """
    told = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not (told.isascii() and told.isdigit() and int(told)):
        raise DataError(f"{VARIABLE}={told!r}: expected a whole number of pixels above 0, such as {MAX_PIXELS}")
    return int(told)


def check_pixels(width: int, height: int) -> None:
    """Refuse a picture, or one frame of several, by the size in pixels that its header claims.

    Raises:
        DataError: no pixels, or more than `max_pixels`, or than `MAX_SIDE` along one.
    """
    if min(width, height) < 1:
        raise DataError(f"size {width} x {height}: expected one pixel at least; copy it again from its source")
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{width} x {height} pixels, more than {MAX_SIDE} on a side; cut or save it smaller")
    if (pixels := width * height) > (limit := max_pixels()):
        raise DataError(f"{width} x {height} is {pixels} pixels, {_beyond(limit, pixels)}")


def check_frames(frames: int, pixels: int, size: int) -> None:
    """Refuse several frames with `pixels` in all that a file of `size` bytes claims to hold.

    Raises:
        DataError: more than `max_pixels`, and than a file of that size can plausibly hold.
    """
    if pixels > (limit := max(max_pixels(), PIXELS_PER_BYTE * size)):
        raise DataError(f"{frames} frames in {size} bytes claim {pixels} pixels, {_beyond(limit, pixels)}")


def _beyond(limit: int, pixels: int) -> str:
    return f"more than the limit of {limit}; for a file that you trust, set {VARIABLE}={pixels} in the environment"


def check_scans(jpeg: bytes) -> None:
    """Refuse a progressive JPEG whose passes over the picture would take long; `DataError`."""
    if (scans := jpeg.count(b"\xff\xda")) > MAX_SCANS:  # the marker SOS, which pixels never hold (ITU-T T.81, B.1.1.5)
        raise DataError(f"JPEG with {scans} scans, more than the limit of {MAX_SCANS}; save it anew")


@contextmanager
def decoding(subject: str | Path, kind: str, advice: str) -> Iterator[None]:
    """Run another library's decoder: whatever it raises becomes one line, and its warnings are dropped.

    Args:
        subject: what is read.
        kind: what it is read as, such as "a DICOM image".
        advice: the next step.

    Raises:
        DataError: anything went wrong; one from inside is passed on, of its own class, with the subject before it.
    """
    try:
        with _without_warnings():
            yield
    except DataError as error:
        raise type(error)(f"{subject}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{subject}: no such file; {advice}") from None
    # Decoders have no common error: a damaged file ends in an IndexError, struct.error, TypeError or MemoryError, too.
    except Exception as error:
        raise DataError(f"{subject}: cannot be read as {kind} ({one_line(error)}); {advice}") from None


_lock, _depth = threading.Lock(), 0
_filters: warnings.catch_warnings | None = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """No warnings meanwhile; `warnings.catch_warnings` alone leaves wrong filters where several threads are inside."""
    global _depth, _filters
    with _lock:
        _depth += 1
        if _depth == 1:
            _filters = warnings.catch_warnings(action="ignore")
            _filters.__enter__()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _filters:
                _filters.__exit__(None, None, None)
