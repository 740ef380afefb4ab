"""Synthetic breast-ultrasound images, made from scratch: the embedded dataset of demos and tests.

`anatomy` invents the patients, `b_mode` makes the images. They resemble B-mode; numbers measured on them say nothing
about patients.
"""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw, ImageFont

from ultrarefiner_monai.data.phantom.anatomy import MOST_LESIONS, draw_breast, draw_view
from ultrarefiner_monai.data.phantom.b_mode import Breast, render
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import atomic_folder

FIELDS = ("image", "mask", "patient", "class", "lesions")


@dataclass(frozen=True)
class PhantomSettings:
    """What a phantom holds.

    Attributes:
        normal: share of the patients without a lesion.
        malignant: share of the patients with a malignant lesion; the rest is benign. Default: about as in BUS-BRA.
        lesions: most lesions a patient has, 1 to 3; four in five have one.
        views: most images a patient has; the numbers up to it are equally likely.
        size: least and greatest side of an image (px), from 96; no image is square. Lesions and layers grow with it,
            speckle and strands keep their size.
        marks: share of the images with burnt-in text and, where they show a lesion, calipers.

    Raises:
        DataError: a value is out of its range.
    """

    normal: float = 0.1
    malignant: float = 0.4
    lesions: int = 3
    views: int = 3
    size: tuple[int, int] = (150, 260)
    marks: float = 0.3

    def __post_init__(self) -> None:
        self._check("normal", "a share from 0 to 1", lambda share: 0 <= share <= 1)
        self._check("malignant", "a share from 0 to 1 less normal", lambda share: 0 <= share <= 1 - self.normal)
        self._check("lesions", f"1 to {MOST_LESIONS}", lambda most: most in range(1, MOST_LESIONS + 1))
        self._check("views", "a whole number from 1", lambda most: isinstance(most, int) and most >= 1)
        self._check("size", "two whole numbers, the lesser first, from 96", _is_size)
        self._check("marks", "a share from 0 to 1", lambda share: 0 <= share <= 1)

    def _check(self, name: str, expected: str, holds: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        try:
            sound = holds(value)
        except (TypeError, ValueError):  # no number at all, such as a word of the command line
            sound = False
        if not sound:
            raise DataError(f"phantom: expected {name} to be {expected}, found {value!r}; correct it")


def _is_size(size: Any) -> bool:
    least, greatest = size
    return isinstance(least, int) and isinstance(greatest, int) and 96 <= least < greatest


DEFAULT = PhantomSettings()


def generate_phantom(folder: str | Path, count: int = 60, seed: int = 42, settings: PhantomSettings = DEFAULT) -> None:
    """Write `folder/images/*.png`, `folder/masks/*.png` (0 and 255) and `folder/cases.csv`.

    The same count, seed and settings give the same bytes; more images only add to the first ones.

    Args:
        folder: created where absent.
        count: number of images.
        seed: decides everything; not negative.
        settings: what the images show.

    Raises:
        DataError: count or seed is out of its range.
        OSError: the disk refuses; the folder is as it was.
    """
    if not (isinstance(count, int) and isinstance(seed, int) and count >= 1 and seed >= 0):
        raise DataError(
            f"phantom: expected whole numbers, a count from 1 and a seed from 0, found {count!r} and {seed!r}; correct them"
        )
    with atomic_folder(Path(folder)) as root:
        for part in ("images", "masks"):
            (root / part).mkdir()
        views = _views(seed, settings)
        rows = [_write_view(root, *next(views)) for _ in range(count)]
        with (root / "cases.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def burn_in(rng: Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with a line of text near the bottom and a pair of calipers at the sides of the lesion."""
    marked = Image.fromarray(image)
    draw = ImageDraw.Draw(marked)
    text = f"{rng.choice(('LT', 'RT'))} BREAST {rng.integers(1, 13)}H"
    corner = (int(rng.integers(4, 30)), int(image.shape[0] * rng.uniform(0.8, 0.9)))
    draw.text(corner, text, fill=235, font=ImageFont.load_default_imagefont())
    if mask.any():
        columns = np.flatnonzero(mask.any(0))
        for column in (columns[0], columns[-1]):
            row = int(np.flatnonzero(mask[:, column]).mean())
            draw.line((column - 3, row, column + 3, row), fill=235)
            draw.line((column, row - 3, column, row + 3), fill=235)
    return np.asarray(marked)


def _views(seed: int, settings: PhantomSettings) -> Iterator[tuple[str, Breast, np.ndarray, np.ndarray]]:
    """Endless (name, view, image, mask); each patient has a random stream of their own."""
    start = default_rng((seed, 0)).random()
    for patient in numbers():
        rng = default_rng((seed, 1, patient))
        breast = draw_breast(rng, _kind(start, patient, settings), settings.size, settings.lesions)
        for view in range(1, int(rng.integers(1, settings.views + 1)) + 1):
            section = draw_view(rng, breast)
            image, mask = render(rng, section)
            if rng.random() < settings.marks:
                image = burn_in(rng, image, mask)
            yield f"p{patient + 1:04d}_{view}", section, image, mask


def _kind(start: float, patient: int, settings: PhantomSettings) -> str:
    """Class of a patient. Multiples of the golden ratio spread evenly, so that any run of patients has about the shares."""
    turn = (start + patient * (math.sqrt(5) - 1) / 2) % 1
    if turn < settings.normal:
        return "normal"
    return "malignant" if turn < settings.normal + settings.malignant else "benign"


def _write_view(root: Path, name: str, breast: Breast, image: np.ndarray, mask: np.ndarray) -> dict[str, str | int]:
    """Save image and mask and return the row of `cases.csv`."""
    row = {"image": f"images/{name}.png", "mask": f"masks/{name}.png"}
    # Stored, not deflated: deflated bytes differ between the zlib builds that Pillow ships with.
    Image.fromarray(image).save(root / row["image"], compress_level=0)
    Image.fromarray(mask.astype(np.uint8) * 255).save(root / row["mask"], compress_level=0)
    return {**row, "patient": name.split("_")[0], "class": breast.kind, "lesions": len(breast.lesions)}
