import numpy as np
import pytest

from ultrarefiner_monai.metrics.lesions import lesion_counts


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of 40 x 60 px with rectangles (top, left, height, width)."""
    mask = np.zeros((40, 60), dtype=bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        (mask(), mask(), (0, 0, 0)),
        (mask((0, 0, 5, 5)), mask(), (0, 0, 1)),
        (mask(), mask((0, 0, 5, 5), (10, 10, 5, 5)), (2, 0, 0)),
        (mask((0, 0, 5, 5), (30, 30, 5, 5)), mask((0, 0, 5, 5), (10, 10, 5, 5)), (2, 1, 1)),
        # IoU 3 / 30: exactly 0.1 is a find; one pixel less of overlap is none
        (mask((0, 0, 1, 3)), mask((0, 0, 1, 30)), (1, 1, 0)),
        (mask((0, 0, 1, 3)), mask((0, 0, 1, 31)), (1, 0, 1)),
        # one finding over two lesions; two findings in one lesion, of which one is a crumb
        (mask((0, 0, 10, 21)), mask((0, 0, 10, 10), (0, 11, 10, 10)), (2, 2, 0)),
        (mask((0, 0, 10, 8), (9, 10, 1, 1)), mask((0, 0, 10, 20)), (1, 1, 1)),
        # pixels that touch at a corner are one lesion
        (mask((0, 0, 5, 5)), mask((0, 0, 5, 5), (5, 5, 5, 5)), (1, 1, 0)),
    ],
)
def test_by_hand(pred, target, expected):
    found = lesion_counts(pred, target)
    assert (found["lesions"], found["lesions_found"], found["false_lesions"]) == expected
