"""Small data sets as people keep their own."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from ultrarefiner_monai.data.releases.own import Listing, OwnOptions, scan

SIZE = (40, 30)


def speckle(name: str) -> Image.Image:
    """A picture that no other name has."""
    noise = np.random.default_rng(crc32(name.encode())).integers(0, 256, (6, 8), dtype=np.uint8)
    return Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)


def square(side: int = 8, value: int = 255) -> np.ndarray:
    """A mask uint8 (H, W) with a square lesion."""
    mask = np.zeros(SIZE[::-1], dtype=np.uint8)
    mask[5 : 5 + side, 10 : 10 + side] = value
    return mask


def write(root: Path, files: Mapping[str, Image.Image | np.ndarray | str]) -> Path:
    """Write pictures and texts by their paths; returns the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
            buffer = BytesIO()
            picture.save(buffer, {".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix.lower(), "PNG"))
            path.write_bytes(buffer.getvalue())
    return root


def names(root: Path, *paths: str) -> Path:
    """Write empty files, which are enough to be listed."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def listed(root: Path, **options) -> Listing:
    """What a folder lists under the name MYSET."""
    return scan("MYSET", root, OwnOptions(**options))


def masks_of(listing: Listing) -> dict[str, tuple[str, ...]]:
    """Masks of each image by its path."""
    return {source.image: source.masks for source in listing.sources}
