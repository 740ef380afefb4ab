"""Synthetic breast-ultrasound pictures, made from scratch: the embedded dataset of demos and tests.

Patients are drawn here, `b_mode` makes the pictures. They resemble B-mode; numbers measured on them say nothing about
patients.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import count as numbers
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image

from .b_mode import Breast, Lesion, render

FIELDS = ("image", "mask", "patient", "class", "lesions")

# Classes of ten consecutive patients, shuffled: about the share of benign and malignant in BUS-BRA, and a tenth normal.
_CLASSES = ("normal",) + ("malignant",) * 4 + ("benign",) * 5

# Depth of the lower border of skin, fat and gland, as a share of the picture's height.
_BORDERS = ((0.05, 0.09), (0.17, 0.36), (0.55, 0.80))

# Mean echo level (dB) of skin, fat, gland and muscle, 0 being the brightest gland.
_LEVELS = ((2.0, 5.0), (-13.0, -7.0), (-5.0, 0.0), (-16.0, -8.0))


def generate_phantom(folder: str | Path, count: int = 60, seed: int = 42) -> None:
    """Write ``folder/images/*.png``, ``folder/masks/*.png`` (0 and 255) and ``folder/cases.csv``.

    The same count and seed give the same bytes; more pictures only add to the first ones.

    Args:
        folder: created where absent.
        count: number of pictures, one to three a patient; about a tenth show no lesion.
        seed: decides everything.
    """
    root = Path(folder)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    views = _views(seed)
    rows = [_write_view(root, *next(views)) for _ in range(count)]
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_breast(rng: Generator, kind: str) -> Breast:
    """Draw a patient: the anatomy and the lesions that all the views show."""
    shape = (int(rng.integers(170, 261)), int(rng.integers(150, 241)))
    shape = shape if shape[0] != shape[1] else (shape[0] + 1, shape[1])
    return Breast(
        kind=kind,
        shape=shape,
        borders=tuple(rng.uniform(*limits) for limits in _BORDERS),
        levels=tuple(rng.uniform(*limits) for limits in _LEVELS),
        density=rng.uniform(1.5, 5.0),
        septa=rng.uniform(6.0, 12.0),
        loss=rng.uniform(0.0, 22.0),
        window=(rng.random(), rng.uniform(0.05, 0.2), rng.uniform(0.0, 12.0) * (rng.random() < 0.4)),
        gain=rng.uniform(20.0, 34.0),
        span=rng.uniform(50.0, 66.0),
        lesions=_draw_lesions(rng, kind, shape),
    )


def draw_view(rng: Generator, breast: Breast) -> Breast:
    """The same patient with the probe moved: lesions shift, turn and change in section, layers thicken or thin."""
    shift = rng.uniform(-0.06, 0.06, 2) * (0.4, 1.0)
    scale = rng.uniform(0.85, 1.1)
    return replace(
        breast,
        borders=tuple(border * rng.uniform(0.95, 1.05) for border in breast.borders),
        gain=breast.gain + rng.uniform(-4.0, 4.0),
        lesions=tuple(
            replace(
                lesion,
                centre=(lesion.centre[0] + shift[0], lesion.centre[1] + shift[1]),
                radii=(lesion.radii[0] * scale, lesion.radii[1] * scale * rng.uniform(0.9, 1.1)),
                angle=lesion.angle + rng.uniform(-0.15, 0.15),
            )
            for lesion in breast.lesions
        ),
    )


def _views(seed: int) -> Iterator[tuple[str, Breast, np.ndarray, np.ndarray]]:
    """Endless (name, view, picture, mask); each patient has a random stream of their own."""
    for patient in numbers():
        classes = default_rng((seed, 0, patient // len(_CLASSES))).permutation(_CLASSES)
        rng = default_rng((seed, 1, patient))
        breast = draw_breast(rng, str(classes[patient % len(_CLASSES)]))
        for view in range(1, int(rng.integers(1, 4)) + 1):
            section = draw_view(rng, breast)
            yield f"p{patient + 1:04d}_{view}", section, *render(rng, section)


def _write_view(root: Path, name: str, breast: Breast, picture: np.ndarray, mask: np.ndarray) -> dict[str, str | int]:
    """Save picture and mask and return the row of ``cases.csv``."""
    row = {"image": f"images/{name}.png", "mask": f"masks/{name}.png"}
    # Stored, not deflated: deflated bytes differ between the zlib builds that Pillow ships with.
    Image.fromarray(picture).save(root / row["image"], compress_level=0)
    Image.fromarray(mask.astype(np.uint8) * 255).save(root / row["mask"], compress_level=0)
    return {**row, "patient": name.split("_")[0], "class": breast.kind, "lesions": len(breast.lesions)}


def _draw_lesions(rng: Generator, kind: str, shape: tuple[int, int]) -> tuple[Lesion, ...]:
    """One to three lesions, side by side so that they stay apart."""
    if kind == "normal":
        return ()
    number = int(rng.choice((1, 2, 3), p=(0.8, 0.14, 0.06)))
    columns = (rng.permutation(number) + rng.uniform(0.25, 0.75, number)) / number
    draw = _draw_benign if kind == "benign" else _draw_malignant
    lesions = (draw(rng, column, shape[1] / (1 + 0.6 * (number - 1))) for column in columns)
    return tuple(_below_skin(lesion, shape[0]) for lesion in lesions)


def _below_skin(lesion: Lesion, height: int) -> Lesion:
    """The lesion, moved down where it would reach into the skin."""
    highest = _BORDERS[0][1] + 0.03 + lesion.radii[0] / height
    return replace(lesion, centre=(max(lesion.centre[0], highest), lesion.centre[1]))


def _draw_benign(rng: Generator, column: float, room: float) -> Lesion:
    """Oval, wider than tall, smooth and sharp; a fibroadenoma or, one in three, an anechoic cyst."""
    width = room * rng.uniform(0.09, 0.22)
    cyst = rng.random() < 1 / 3
    return Lesion(
        centre=(rng.uniform(0.22, 0.62), column),
        radii=(width * rng.uniform(0.5, 0.9), width),
        angle=rng.normal(0, 0.2),
        swings=((2, rng.uniform(0, 0.08), rng.uniform(0, 6.28)), (3, rng.uniform(0, 0.06), rng.uniform(0, 6.28))),
        spikes=(),
        level=rng.uniform(-34, -24) if cyst else rng.uniform(-16, -9),
        edge=rng.uniform(0.7, 1.5),
        attenuation=-rng.uniform(0.05, 0.14) if cyst else rng.uniform(-0.08, 0.04),
        halo=rng.uniform(0, 4),
    )


def _draw_malignant(rng: Generator, column: float, room: float) -> Lesion:
    """As tall as wide, lobulated or spiculated, indistinct, with an echogenic halo; mostly with a shadow."""
    width = room * rng.uniform(0.09, 0.2)
    spiculated = rng.random() < 0.5
    lobes = [(order, rng.uniform(0.02, 0.3 / order), rng.uniform(0, 6.28)) for order in (2, 3, 4, 5, 7)]
    angles = rng.uniform(0, 6.28, int(rng.integers(5, 10)) if spiculated else 0)
    return Lesion(
        centre=(rng.uniform(0.25, 0.6), column),
        radii=(width * rng.uniform(0.75, 1.35), width),
        angle=rng.normal(0, 0.3),
        swings=tuple(lobes),
        spikes=tuple((angle, rng.uniform(0.15, 0.55)) for angle in angles),
        level=rng.uniform(-22, -12),
        edge=rng.uniform(1.5, 3.5),
        attenuation=rng.uniform(0.05, 0.35) if rng.random() < 0.8 else rng.uniform(-0.06, 0.05),
        halo=rng.uniform(2, 7),
    )
