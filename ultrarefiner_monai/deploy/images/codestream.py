"""Compressed frames of DICOM files: their own headers, whose sizes decoders believe."""

from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from ultrarefiner_monai.data.decoders import check_scans

if TYPE_CHECKING:
    from pydicom import Dataset

# JPEG, also lossless and LS (ITU-T T.81, B.1.1.3 and B.2.2; ITU-T T.87, annex C): an image begins with SOI, and its size
# stands in its one frame header, SOF. Markers DHT, JPG and DAC are no frame headers.
JPEG, SOF = b"\xff\xd8", {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}


def check_encapsulated(whole: "Dataset", count: int) -> None:
    """Refuse a file of which a compressed frame says that it is larger than the file says.

    Args:
        whole: the file with its pixels.
        count: number of its frames.

    Raises:
        ValueError: another size, or one that cannot be found.
    """
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    table = [whole.get(f"ExtendedOffsetTable{end}") for end in ("", "Lengths")]
    offsets = (table[0], table[1]) if all(table) else None
    expected = int(whole.Columns), int(whole.Rows)
    is_rle = whole.file_meta.TransferSyntaxUID == RLELossless  # whose frames claim no size
    for frame in generate_frames(whole.PixelData, number_of_frames=count, extended_offsets=offsets):
        if not is_rle and (found := frame_size(frame)) != expected:
            raise ValueError(f"frames of {expected} by its header, found one of {found}")
        if frame.startswith(JPEG):
            check_scans(frame)


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) that a frame claims in JPEG, JPEG-LS or JPEG 2000; None of a JPEG that claims none."""
    if not frame.startswith(JPEG):
        return Image.open(BytesIO(frame), formats=["JPEG2000"]).size  # opening reads the header alone
    place = len(JPEG)
    while place + 9 <= len(frame):
        if frame[place] != 0xFF or frame[place + 1] == 0xFF:  # fill bytes
            place += 1
        elif frame[place + 1] in SOF:
            return int.from_bytes(frame[place + 7 : place + 9]), int.from_bytes(frame[place + 5 : place + 7])
        else:
            place += 2 + int.from_bytes(frame[place + 2 : place + 4])
    return None
