"""Overlays, pixel by pixel."""

import numpy as np
import pytest

from ultrarefiner_monai.colours import LAST, rgb
from ultrarefiner_monai.deploy.predict.overlays import BLACK, OUTLINES, WHITE, bar_of, overlay

NOTHING = np.zeros((8, 9), dtype=bool)


def drawn(mask, grey=0.0, left_out=None, spacing=None):
    mask = np.asarray(mask).astype(np.uint8)
    left_out = np.zeros(mask.shape, dtype=bool) if left_out is None else left_out
    return overlay(np.full(mask.shape, grey, np.float32), mask, left_out, spacing)


def is_colour(picture, colour):
    return (picture == colour).all(axis=-1)


def test_a_lesion_is_filled_within_a_line_around_it():
    mask = NOTHING.copy()
    mask[3:5, 3:6] = True
    picture = drawn(mask, 0.4)
    line = is_colour(picture, OUTLINES[0])
    assert OUTLINES[0] == rgb(LAST) == (86, 180, 233)
    assert not (line & mask).any() and line.sum() == 2 * 2 + 2 * 3
    assert (picture[~line & ~mask] == 102).all()
    assert (picture[mask] == (97, 125, 141)).all()  # 0.7 x 102 + 0.3 x the colour
    large = np.zeros((900, 9), dtype=bool)
    large[:, 4] = True
    assert is_colour(drawn(large), OUTLINES[0])[0].tolist() == [
        *(False, False, True, True, False, True, True, False, False)  # two pixels wide
    ]


def test_colours_of_classes_differ_and_lines_never_lie_on_a_lesion():
    mask = np.zeros((8, 12), dtype=np.uint8)
    mask[2:5, 1:4], mask[3:6, 7:10] = 1, 2
    picture = drawn(mask)
    first, second = (is_colour(picture, OUTLINES[number]) for number in (0, 1))
    assert (first.sum(), second.sum()) == (12, 12) and not (first & second).any()
    assert first[1, 1:4].all() and second[2, 7:10].all()
    assert (picture[mask == 1] == (26, 54, 70)).all() and (picture[mask == 2] == (64, 28, 0)).all()


@pytest.mark.parametrize(
    ("width", "spacing", "expected"),
    [
        (300, (0.5, 0.1), (10, 100)),  # 30 mm wide; the spacing along a row counts
        (299, (0.1, 0.1), (5, 50)),
        (400, (0.1, 0.075), (10, 133)),  # 133.3
        (2000, (0.02, 0.02), (10, 500)),
        (20, (0.1, 0.1), (0, 0)),  # 2 mm wide
        (1000, (1.0, 1.0), (100, 100)),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(width, spacing, expected):
    assert bar_of(width, spacing) == expected


def test_ten_millimetres_are_a_hundred_white_pixels_at_a_tenth():
    picture = drawn(np.zeros((240, 300)), 0.5, spacing=(0.1, 0.1))
    white = is_colour(picture, WHITE)
    bar = [row for row in range(240) if white[row, :110].sum() == 100]  # letters of "10 mm" lie right of it
    assert len(bar) == 3 and bar[-1] == 240 - 5 - 1  # letters of 11 px: a third high, half from the edge
    columns = np.flatnonzero(white[bar[0], :110])
    assert (columns[0], columns[-1]) == (5, 104)
    assert is_colour(picture, BLACK)[bar[0], [4, 105]].all()
    assert white[:, 110:].any()
    assert (drawn(np.zeros((240, 300)), 0.5) == 128).all()  # nothing is written where nothing is known


def test_diameters_are_drawn_and_told():
    mask = np.zeros((200, 200), dtype=bool)
    mask[100, 30:171] = True  # one row
    picture = drawn(mask, 0.5)
    white = is_colour(picture, WHITE)
    assert white[100, 31:170].all() and not white[100, :28].any() and not white[100, 173:].any()
    assert white[:98].sum() == 0  # the caption lies below
    captioned = white[150:, :100].any()
    assert captioned and not is_colour(drawn(np.zeros((200, 200)), 0.5), WHITE).any()


def test_what_was_left_out_is_dashed_not_filled_and_counted():
    left = np.zeros((200, 200), dtype=bool)
    left[20:30, 20:40], left[60:62, 90:92] = True, True
    picture = drawn(np.zeros((200, 200)), 0.5, left)
    assert (picture[left] == 128).all()
    line = picture[19, 20:40]
    assert is_colour(line, WHITE).sum() + is_colour(line, BLACK).sum() == 20
    assert 6 <= is_colour(line, WHITE).sum() <= 14
    assert is_colour(picture[150:], WHITE).any()
    assert (picture[100:150] == 128).all()


def test_small_images_have_nothing_written_on_them():
    mask = np.zeros((99, 300), dtype=bool)
    mask[40:50, 40:80] = True
    assert not is_colour(drawn(mask, 0.5, spacing=(0.1, 0.1)), WHITE).any()


def test_what_does_not_fit_is_not_written():
    picture = drawn(np.zeros((120, 100)), 0.5, np.eye(120, 100, dtype=bool))
    assert (picture[105:, 60:] == 128).all()  # "1 part left out (dashed)" is wider than 100 px
