"""Decoding of image files: the right way up, and with the stored value that is white.

Every picture that is read from PNG, JPEG, BMP or TIFF passes through `decode`, whether for a manifest, a training, a
prediction or a server, and every array of more than 8 bits through `white_of`.
"""

import re
from contextlib import suppress
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ultrarefiner_monai.data.decoders import FORMATS, check_pixels, check_scans
from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    from PIL import Image

BITS = (8, 12, 16)  # of grey values: what screens show, what scanners' converters give, what files hold
MAX_16_BIT = 65535
TURNED = "turned as their EXIF orientation says"  # what a manifest, and a run's log, say of such images
ORIENTATION = 0x0112  # tag of EXIF 2.32 and TIFF 6.0: 1 is upright, 2 to 8 are turned or mirrored
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 4
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF 6.0, section 15
# What pictures come in and is not read, by its first bytes (ISO/IEC 23008-12, annex B; ISO 32000-1, 7.5.2), and the next step.
CONVERTED = {
    re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL): "a HEIC picture; save it as PNG or JPEG",
    re.compile(rb"%PDF-"): "a PDF document; save its images as PNG, such as with 'pdfimages -png FILE NAME'",
}


def decode(stream: IO[bytes], name: str = "") -> "Image.Image":
    """Decode an image completely and turn it as its orientation tag (EXIF) says.

    The tag's value stays in `info["orientation"]`, 1 where there is none; `info["sixteen_bit_colours"]` says that the
    file's colours had 16 bits, of which Pillow keeps the upper eight. The stream has to stay open for further frames.
    Whatever Pillow raises for a damaged file is passed on; it may be of any class, see `decoders.decoding`.

    Args:
        stream: the file.
        name: of the file; what it holds must be what its suffix promises, if that is one of `FORMATS`.

    Raises:
        DataError: another format than promised, or more pixels than are allowed.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Of a stream: of a path Pillow 13 maps the file, and scrambles turned TIFFs.
        image = Image.open(stream, formats=sorted({*FORMATS.values()}))
    except UnidentifiedImageError:
        raise _unknown(stream) from None
    except Image.DecompressionBombError as error:  # where the header alone is beyond Pillow's own limit
        raise DataError(f"{one_line(error)} Save it smaller") from None
    _check_format(image, name)
    if image.format == "JPEG" and image.info.get("progressive"):
        _check_jpeg(stream)
    turn(image)
    return image


def _unknown(stream: IO[bytes]) -> ValueError:
    """What to say of a file that is in none of `FORMATS`."""
    stream.seek(0)
    head = stream.read(12)
    told = [f"expected PNG, JPEG, BMP or TIFF, found {step}" for start, step in CONVERTED.items() if start.match(head)]
    return DataError(told[0]) if told else ValueError("of no known format: expected PNG, JPEG, BMP or TIFF")


def _check_format(image: "Image.Image", name: str) -> None:
    """Refuse what is of another format than its name promises."""
    found = "JPEG" if image.format == "MPO" else image.format  # a JPEG with further ones behind it
    promised = FORMATS.get(PurePath(name).suffix.lower(), found)
    if found != promised:
        suffix = next(suffix for suffix, known in FORMATS.items() if known == found)
        raise DataError(f"expected {promised} by its name, found {found}; rename it to end in {suffix}")


def _check_jpeg(stream: IO[bytes]) -> None:
    place = stream.tell()
    stream.seek(0)
    check_scans(stream.read())
    stream.seek(place)


def turn(image: "Image.Image") -> None:
    """Load the frame at which an image stands, as `decode` gives it."""
    from PIL import ImageOps

    check_pixels(*image.size)
    tags: Any = getattr(image, "tag_v2", {})
    if TILE_WIDTH in tags:  # memory is taken for a whole tile, however small the picture
        check_pixels(tags[TILE_WIDTH], tags.get(TILE_LENGTH, 1))
    tiles: Any = getattr(image, "tile", ())
    deep = image.mode not in ("L", "I", "F") and not image.mode.startswith("I;")
    image.info["sixteen_bit_colours"] = deep and any(";16" in str(tile[-1]) for tile in tiles)
    orientation = tags.get(ORIENTATION, 1)  # loading a TIFF turns it and removes the tag
    image.load()
    with suppress(Exception):  # tags that cannot be read turn nothing, here as in viewers
        orientation = image.getexif().get(ORIENTATION, orientation)
        ImageOps.exif_transpose(image, in_place=True)
    image.info["orientation"] = orientation if orientation in range(1, 9) else 1


def deep_values(image: "Image.Image") -> np.ndarray | None:
    """Stored values (H, W) of a decoded image with more than 8 bits a grey value, None of any other."""
    return np.asarray(image) if image.mode == "F" or image.mode.startswith("I") else None


def is_inverted(image: "Image.Image") -> bool:
    """Whether zero is white in a TIFF whose values Pillow gives as stored."""
    deep = image.mode == "F" or image.mode.startswith("I")
    return deep and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO


def white_of_image(image: "Image.Image") -> int:
    """The stored value that is white in a decoded image."""
    values = deep_values(image)
    return 255 if values is None else white_of(values)


def white_of(values: np.ndarray) -> int:
    """The stored value that is white, where a file does not tell: the largest of the fewest bits, 8, 12 or 16, that hold all.

    A file with 16 bits a pixel often holds 8 or 12; divided by 65535 it would be black. Fractions in [0, 1] have their white
    at 1; other floating-point values count as whole numbers.

    Raises:
        DataError: there are values below 0, above 65535, undefined ones, or fractions that exceed 1 by less than 1.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    is_float = values.dtype.kind == "f"
    if not (low >= 0 and high <= MAX_16_BIT) or (is_float and 1 < high < 2):
        expected = "expected values in 0..65535" + (" or 0..1" if is_float else "")
        raise DataError(f"{expected}, found {values.dtype} from {low:g} to {high:g}; save it with 8 or 16 bits")
    if is_float and high <= 1:
        return 1
    return next(white for bits in BITS if (white := (1 << bits) - 1) >= high)
