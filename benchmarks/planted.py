"""Copies of an image as they turn up in releases: planted to measure how well near-duplicates and copies are found.

Every change takes and returns an 8-bit grey PIL image.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont, ImageOps

Change = Callable[[Image.Image], Image.Image]


def shift(image: Image.Image) -> Image.Image:
    """The content moved by one pixel up and to the left; the border that comes free is black."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Saved as JPEG and read again."""
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("L")


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """Grey values times `factor`, cut off at 255."""
    return image.point(lambda value: min(255, round(value * factor)))


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without the given shares of the width and height at each border."""
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def half(image: Image.Image) -> Image.Image:
    """Half the width and height."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def annotate(image: Image.Image) -> Image.Image:
    """Two pairs of calipers joined by dotted lines, their measures and the name of the side burnt in, in white."""
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    width, height = copy.size
    stroke = max(1, round(min(width, height) / 200))
    for ends in (((0.3, 0.3), (0.6, 0.5)), ((0.42, 0.55), (0.48, 0.22))):
        (x1, y1), (x2, y2) = ((x * width, y * height) for x, y in ends)
        for x, y in ((x1, y1), (x2, y2)):
            arm = 6 * stroke
            draw.line((x - arm, y, x + arm, y), fill=255, width=stroke)
            draw.line((x, y - arm, x, y + arm), fill=255, width=stroke)
        draw.point([(x1 + (x2 - x1) * t / 40, y1 + (y2 - y1) * t / 40) for t in range(41)], fill=255)
    font = ImageFont.load_default(size=max(9, height // 22))
    draw.text((0.03 * width, 0.88 * height), "1 D 14.2 mm\n2 D 9.7 mm", fill=255, font=font)
    draw.text((0.6 * width, 0.03 * height), "LT BREAST", fill=255, font=font)
    return copy


def both(first: Change, second: Change) -> Change:
    """One change after the other."""
    return lambda image: second(first(image))


def zoom(image: Image.Image, factor: float) -> Image.Image:
    """The middle `factor` times as large on the same canvas; the border that comes free is black."""
    (x, y), step = (image.width / 2, image.height / 2), 1 / factor
    matrix = (step, 0, x - x * step, 0, step, y - y * step)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def resize(image: Image.Image, factor: float) -> Image.Image:
    """`factor` times the width and height."""
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def rotate(image: Image.Image, angle: float) -> Image.Image:
    """Turned counter-clockwise by `angle` degrees on the same canvas; the corners that come free are black."""
    return image.rotate(angle, Image.Resampling.BICUBIC)


def quarter(image: Image.Image) -> Image.Image:
    """Turned counter-clockwise by a right angle."""
    return image.transpose(Image.Transpose.ROTATE_90)


_jpeg50: Change = partial(jpeg, quality=50)
_left: Change = partial(crop, left=0.02, top=0, right=0, bottom=0)
_around: Change = partial(crop, left=0.01, top=0.01, right=0.01, bottom=0.01)

CHANGES: dict[str, Change] = {
    "mirrored left-right": ImageOps.mirror,
    "mirrored top-bottom": ImageOps.flip,
    "moved by one pixel": shift,
    "JPEG quality 75": partial(jpeg, quality=75),
    "JPEG quality 50": _jpeg50,
    "brightness +30 %": partial(brightness, factor=1.3),
    "brightness -30 %": partial(brightness, factor=0.7),
    "half size": half,
    "calipers and text": annotate,
    "cropped by 2 % at the left": _left,
    "cropped by 1 % on every side": _around,
    "cropped by 2 % on every side": partial(crop, left=0.02, top=0.02, right=0.02, bottom=0.02),
    "mirrored and cropped at the left": both(ImageOps.mirror, _left),
    "mirrored and brighter": both(ImageOps.mirror, partial(brightness, factor=1.3)),
    "moved and JPEG 50": both(shift, _jpeg50),
    "calipers and JPEG 50": both(annotate, _jpeg50),
    "calipers and cropped all round": both(annotate, _around),
}

_corner: Change = partial(crop, left=0, top=0.35, right=0.35, bottom=0)
_middle: Change = partial(crop, left=0.2, top=0.15, right=0.15, bottom=0.2)
_turned: Change = partial(rotate, angle=30)

# What no hash of the whole image survives; crops are told by the share of width and of height that is lost.
GEOMETRY: dict[str, Change] = {
    "crop 10 %": partial(crop, left=0.02, top=0.09, right=0.08, bottom=0.01),
    "crop 20 %": partial(crop, left=0.2, top=0, right=0, bottom=0.2),
    "crop 35 %, a corner stays": _corner,
    "crop 35 %, the middle stays": _middle,
    "zoom 0.6": partial(zoom, factor=0.6),
    "zoom 0.8": partial(zoom, factor=0.8),
    "zoom 1.25": partial(zoom, factor=1.25),
    "zoom 1.6": partial(zoom, factor=1.6),
    "rotated by 5 degrees": partial(rotate, angle=5),
    "rotated by 15 degrees": partial(rotate, angle=-15),
    "rotated by 30 degrees": _turned,
    "rotated by 90 degrees": quarter,
    "rotated by 180 degrees": both(quarter, quarter),
    "rotated by 270 degrees": both(both(quarter, quarter), quarter),
    "mirrored left-right": ImageOps.mirror,
    "mirrored top-bottom": ImageOps.flip,
    "crop 35 %, rotated by 30": both(_middle, _turned),
    "mirrored, rotated by 30, crop 20 %": both(
        both(ImageOps.mirror, _turned), partial(crop, left=0.1, top=0.1, right=0.1, bottom=0.1)
    ),
    "zoom 1.6, rotated by 30, mirrored": both(both(partial(zoom, factor=1.6), _turned), ImageOps.mirror),
    "zoom 0.6, rotated by 30": both(partial(zoom, factor=0.6), _turned),
    "rotated by 90, crop 35 %, mirrored": both(both(quarter, _middle), ImageOps.mirror),
    "crop 35 %, 0.6 of the size, rotated by 15, JPEG 50": both(
        both(both(_middle, partial(resize, factor=0.6)), partial(rotate, angle=15)), _jpeg50
    ),
    "crop 20 %, calipers and text, 1.6 of the size": both(
        both(partial(crop, left=0, top=0.2, right=0.2, bottom=0), annotate), partial(resize, factor=1.6)
    ),
}
