"""Images and masks as arrays (H, W), whatever way their files store them.

Every conversion is explicit, because readers disagree silently: palette files load as indices, MONAI's PILReader
returns (W, H), and a mask of mode `1` divided by 255 loses every lesion.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.data.decoding import decode, deep_values, is_inverted, white_of
from ultrarefiner_monai.errors import DataError, one_line
from ultrarefiner_monai.files import regular

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]  # (width, height) in pixels, PIL's order
Paths = str | Path | Sequence[str | Path]

AGAIN = "copy it again from its source"
LOWER_HALF = 16  # 16-bit colours of at most 12 bits have their upper byte below this


def read_grey(path: str | Path, size: Size | None = None) -> np.ndarray:
    """Read an image as grey values (H, W) float32 in [0, 1], stretched to `size` (W, H) where that differs.

    Colours become luma (ITU-R BT.601, PIL's "L"), alpha is dropped, deeper values are divided by what `white_of` them says.
    Images and masks are turned as their orientation tags (EXIF) say, as they are displayed; most have none.
    Raises `DataError` for a file that is missing, unreadable or of an unknown pixel format.
    """
    with open_image(path) as image:
        return stretch(to_grey(image), size)


def read_mask(paths: Paths, size: Size | None = None) -> np.ndarray:
    """Read the union of one or several mask files as bool (H, W), resampled to `size` (W, H) by nearest neighbour.

    A pixel belongs to the lesion where any colour channel (never alpha) reaches half of the file's largest value. In a
    strictly binary mask that is every non-zero pixel, whether lesions are 1, 255, green or red; in a mask with other
    values (JPEG, resampling) it is the half-way threshold. Raises `DataError` when files differ in size or cannot be
    read.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise DataError("no mask file given: expected at least one path")
    masks = []
    for file in files:
        with open_image(file) as image:
            masks.append(lesion(to_planes(image)))
    if len({mask.shape for mask in masks}) > 1:
        sizes = ", ".join(f"{Path(file).name} {m.shape[1]}x{m.shape[0]}" for file, m in zip(files, masks, strict=True))
        raise DataError(f"masks of one image differ in size: {sizes}; correct or remove the odd one")
    union = np.logical_or.reduce(masks)
    if size is None or tuple(size) == union.shape[::-1]:
        return union
    from PIL import Image

    return np.asarray(Image.fromarray(union.astype(np.uint8)).resize((size[0], size[1]), Image.Resampling.NEAREST)) > 0


@contextmanager
def open_image(path: str | Path) -> Iterator["Image.Image"]:
    """Open and decode an image completely, see `decode`; any failure is a one-line `DataError` naming the file."""
    with ExitStack() as stack:
        with decoding(path, "an image", AGAIN):
            image = decode(stack.enter_context(regular(Path(path)).open("rb")), str(path))
        try:
            yield image
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except (OSError, ValueError, MemoryError) as error:
            raise DataError(f"{path}: cannot be read as an image ({one_line(error)}); {AGAIN}") from None


def to_grey(image: "Image.Image", white: int | None = None) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of a decoded PIL image.

    Args:
        image: as `decode` gives it.
        white: the stored value that becomes 1 in images with more than 8 bits; None is what `white_of` says.

    Raises:
        DataError: values have no defined range, or Pillow has lost them.
    """
    values = deep_values(image)
    if values is not None:
        white = white or white_of(values)
        grey = (values / white).astype(np.float32)
        return 1 - grey if is_inverted(image) else grey
    pixels = _coloured(image)
    if image.info.get("sixteen_bit_colours") and np.asarray(pixels).max() < LOWER_HALF:
        raise DataError(
            "colours with 16 bits that use 12 at most, of which Pillow keeps 4; save it in grey or with 8 bits"
        )
    return np.asarray(pixels.convert("L"), dtype=np.float32) / 255


def to_planes(image: "Image.Image") -> np.ndarray:
    """Stored values (H, W, channels) of a mask file, alpha dropped and palettes looked up."""
    values = deep_values(image)
    if values is not None:
        scale = 255 if white_of(values) == 1 else 1  # from 0 to 1 by fractions
        return np.rint(values * scale).astype(np.int64)[..., None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]  # PIL makes bools of byte 255, which NumPy miscompares
    return np.asarray(_coloured(image).convert("RGB"))


def to_alpha(image: "Image.Image") -> np.ndarray | None:
    """Opacity (H, W) uint8 of a decoded image, None where its file has none."""
    return np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None


def lesion(planes: np.ndarray) -> np.ndarray:
    """Bool (H, W) of a mask's planes (H, W, channels) by the rule of `read_mask`."""
    brightest = reduce(np.maximum, np.moveaxis(planes, 2, 0))  # four times faster than planes.max(axis=2)
    half = (int(brightest.max()) + 1) // 2
    return brightest >= max(half, 1)


def stretch(grey: np.ndarray, size: Size | None) -> np.ndarray:
    """Resample grey values (H, W) to `size` (W, H), bilinear with antialiasing; unchanged where the size is right."""
    from PIL import Image

    if size is None or tuple(size) == grey.shape[::-1]:
        return grey
    image = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
    return np.clip(np.asarray(image.resize((size[0], size[1]), Image.Resampling.BILINEAR)), 0, 1)


def _coloured(image: "Image.Image") -> "Image.Image":
    """The image without alpha, and with colours in place of palette indices."""
    if image.mode in ("LA", "La"):
        return image.getchannel("L")
    if image.mode in ("RGBA", "RGBa", "RGBX"):
        from PIL import Image

        return Image.merge("RGB", image.split()[:3])
    return image if image.mode in ("1", "L", "RGB") else image.convert("RGBA").convert("RGB")
