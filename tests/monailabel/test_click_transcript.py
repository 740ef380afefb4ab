"""The rule of the transcript's clicks by hand, and what a run asks of an app."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.errors import DataError

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "click_transcript.py"))


def rectangle(left, top, right, bottom):
    mask = np.zeros((40, 60), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def test_the_next_click_is_the_deepest_point_of_the_largest_wrong_region():
    truth = rectangle(10, 10, 30, 30)
    next_click = SCRIPT["next_click"]
    assert next_click(rectangle(0, 0, -1, -1), truth) == (20, 20, 1)  # all of it is missed
    assert next_click(truth | rectangle(40, 10, 52, 22), truth) == (46, 16, 0)
    assert next_click(truth & ~rectangle(10, 10, 14, 14) | rectangle(50, 30, 52, 32), truth) == (12, 12, 1)
    assert next_click(truth, truth) is None


@pytest.mark.parametrize("keep", [False, True])
def test_a_transcript_sends_all_clicks_and_perhaps_the_mask_and_stops_where_nothing_is_wrong(keep):
    truth = rectangle(10, 10, 30, 30)
    half, seen = truth & rectangle(10, 10, 19, 30), []

    def app(request):
        clicks = request.get("foreground", [])
        label = np.asarray(Image.open(request["label"])).astype(bool) if "label" in request else None
        seen.append((list(clicks), label))
        if not clicks:
            raise DataError("asked about lesions")
        return half if len(clicks) == 1 else truth

    rows = list(SCRIPT["transcript"](app, Path("one.png"), truth, keep))
    assert [number for number, _, _ in rows] == [0, 1, 2, 3, 4, 5]
    assert [score for *_, score in rows] == pytest.approx([0, 2 * 210 / (210 + 441), 1, 1, 1, 1])
    assert [len(clicks) for clicks, _ in seen] == [0, 1, 2]
    assert seen[1][1] is None and (np.array_equal(seen[2][1], half) if keep else seen[2][1] is None)
    assert [click for _, click, _ in rows][1:3] == [(20, 20, 1), (25, 15, 1)]
