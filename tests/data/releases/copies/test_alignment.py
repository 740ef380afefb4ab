"""The transform between two copies is found, and pictures that share no more than what a machine draws are told apart."""

import numpy as np
import pytest
from made_speckle import speckled
from PIL import Image, ImageDraw, ImageFont, ImageOps
from planted import crop, rotate

from ultrarefiner_monai.data.releases.copies.alignment import MIN_AGREEING, Alignment, align, transform
from ultrarefiner_monai.data.releases.copies.features import Features, describe, working_pixels
from ultrarefiner_monai.data.releases.copies.pairs import ONE_SCENE, SAME_FRAME


def _features(image: Image.Image) -> Features:
    return describe(working_pixels(np.asarray(image, np.float32) / 255))


def _screen(image: Image.Image) -> Image.Image:
    """A small image on a black screen, with what a machine draws around it: a scale, lines and a good deal of text."""
    screen = Image.new("L", (400, 300))
    screen.paste(image.resize((180, 130)), (200, 150))
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(size=20)
    for line, text in enumerate(("BREAST LT 2h", "GAIN 57 DR 60", "FRQ 12.0 MI 1.3", "22:41 MAP E/2")):
        draw.text((15 + 20 * line, 8 + 34 * line), text, fill=255, font=font)
    for tick in range(150, 290, 20):
        draw.line((20, tick, 40 + tick % 3 * 20, tick + 7), fill=255, width=3)
    return screen


def test_a_turned_mirrored_crop_is_laid_on_its_original() -> None:
    original = speckled(0)
    copy = crop(rotate(ImageOps.mirror(original), 20), left=0.1, top=0.1, right=0.1, bottom=0.1)
    found = align(_features(original), _features(copy), mirrored=True)
    assert found is not None
    assert found.correlation > 0.9 and found.agreeing >= MIN_AGREEING and found.kind == SAME_FRAME
    assert found.angle == pytest.approx(-20, abs=1)  # counter-clockwise, with y downwards
    assert found.scale == pytest.approx(1 / 0.8, rel=0.02)  # in pixels of equal areas, as no file tells its own
    plain = align(_features(original), _features(copy), mirrored=False)
    assert plain is None or plain.correlation < 0.3


def test_both_directions_agree() -> None:
    original, copy = _features(speckled(0)), _features(crop(speckled(0), left=0.2, top=0.1, right=0.1, bottom=0.2))
    there, back = align(original, copy, False), align(copy, original, False)
    assert there is not None and back is not None
    assert there.scale * back.scale == pytest.approx(1, rel=0.01)
    assert there.correlation == pytest.approx(back.correlation, abs=0.02)
    assert there.correlation > 0.95


def test_texts_and_frames_agree_but_do_not_correlate() -> None:
    first, second = (_features(_screen(speckled(seed))) for seed in (1, 2))
    agreed = transform(first, second)
    assert agreed is not None and agreed[2] >= MIN_AGREEING
    found = align(first, second, False)
    assert found is not None and found.correlation < 0.45
    same = align(first, _features(crop(_screen(speckled(1)), 0.05, 0.05, 0, 0)), False)
    assert same is not None and same.correlation > 0.9


def test_different_pictures_and_empty_ones_are_not_aligned() -> None:
    assert align(_features(speckled(1)), _features(speckled(2)), False) is None
    flat = describe(np.zeros((256, 256), np.uint8))
    assert align(flat, _features(speckled(1)), False) is None is align(_features(speckled(1)), flat, True)


def test_in_words() -> None:
    assert str(Alignment(0.9, 0.653, -30.2, True, 20)) == "mirrored, turned by -30°, scale 0.65"
    assert str(Alignment(0.9, 1, 0.2, False, 20)) == "scale 1.00"
    assert (Alignment(0.8, 1, 0, False, 9).kind, Alignment(0.79, 1, 0, False, 9).kind) == (SAME_FRAME, ONE_SCENE)
