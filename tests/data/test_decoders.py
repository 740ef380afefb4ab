"""Whatever a decoder raises or warns of is one line, in several threads at once."""

import threading
import warnings
from pathlib import Path

import pytest

from ultrarefiner_monai.data.decoders import (
    PIXELS_PER_BYTE,
    check_frames,
    check_pixels,
    check_scans,
    decoding,
    max_pixels,
)
from ultrarefiner_monai.errors import DataError


@pytest.mark.parametrize(
    "error", [IndexError("a\nb"), MemoryError(), RecursionError("deep"), SyntaxError("broken"), OSError(5, "I/O error")]
)
def test_errors_of_every_class_are_one_line_with_the_next_step(error):
    with (
        pytest.raises(DataError, match=r"^a\.png: cannot be read as an image \(.+\); copy it again$") as raised,
        decoding("a.png", "an image", "copy it again"),
    ):
        raise error
    assert "\n" not in str(raised.value)


def test_own_errors_get_the_subject_and_a_missing_file_is_called_so():
    with pytest.raises(DataError, match=r"^a\.png: 9 pixels$"), decoding("a.png", "an image", "copy it again"):
        raise DataError("9 pixels")
    with (
        pytest.raises(DataError, match=r"^nowhere: no such file; copy it again$"),
        decoding("nowhere", "an image", "copy it again"),
    ):
        Path("nowhere").read_bytes()
    with pytest.raises(KeyboardInterrupt), decoding("a.png", "an image", "copy it again"):
        raise KeyboardInterrupt


def test_warnings_are_dropped_inside_and_come_again_after_the_last_thread_has_left():
    """The first thread leaves while the second is inside; filters that each restored by itself would be wrong for good."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        inside, left = threading.Event(), threading.Event()

        def second():
            with decoding("b", "an image", ""):
                inside.set()
                assert left.wait(30)
                warnings.warn("of the second", stacklevel=1)

        thread = threading.Thread(target=second)
        with decoding("a", "an image", ""):
            thread.start()
            assert inside.wait(30)
            warnings.warn("of the first", stacklevel=1)
        left.set()
        thread.join()
        assert not caught and warnings.filters == before
        warnings.warn("of others", stacklevel=1)
        assert [str(one.message) for one in caught] == ["of others"]


def test_limits():
    side = 4096
    check_pixels(side, side)
    check_pixels(1, 1)
    for width, height in ((side, side + 1), (32768, 1), (0, 1), (1, -1)):
        with pytest.raises(DataError):
            check_pixels(width, height)
    check_frames(1, max_pixels(), 0)
    check_frames(500, 1280 * 1024 * 500, 1280 * 1024 * 500 // PIXELS_PER_BYTE)
    with pytest.raises(DataError, match=r"500 frames in 6000000 bytes claim 655360000 pixels, more than"):
        check_frames(500, 1280 * 1024 * 500, 6000000)
    check_scans(b"\xff\xda" * 100)
    with pytest.raises(DataError, match="101 scans"):
        check_scans(b"\xff\xda" * 101)
