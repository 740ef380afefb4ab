"""Grey values and pixel sizes of DICOM files: the same picture, whatever way it is stored."""

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.images.dicom import DicomFile, import_dicom
from ultrarefiner_monai.errors import DataError

pytest.importorskip("pydicom", reason="DICOM is an optional extra")
from made_dicom import header, region, write_dicom
from pydicom.uid import RLELossless

GREY = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4  # neither square nor symmetric
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
LUMA = np.asarray(Image.fromarray(COLOURS).convert("L"), dtype=np.float32) / 255
YBR = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))


def one_frame(path):
    source = DicomFile(path)
    (grey,) = source.frames()
    assert source.count == 1 and grey.dtype == np.float32
    return grey


def test_grey_values_are_those_of_a_png(tmp_path):
    np.testing.assert_array_equal(one_frame(write_dicom(tmp_path / "a", GREY)), GREY.astype(np.float32) / 255)
    inverted = one_frame(write_dicom(tmp_path / "b", 255 - GREY, "MONOCHROME1"))
    np.testing.assert_array_equal(inverted, GREY.astype(np.float32) / 255)


@pytest.mark.parametrize(("bits", "dtype", "low"), [(12, np.uint16, 0), (16, np.uint16, 0), (12, np.int16, -2048)])
def test_deeper_grey_values_are_divided_by_what_their_bits_hold(bits, dtype, low, tmp_path):
    values = (np.array([[0, 1000, 4095]]) + low).astype(dtype)
    expected = (values.astype(float) - low) / (2**bits - 1)
    np.testing.assert_allclose(one_frame(write_dicom(tmp_path / "a", values, bits=bits)), expected, atol=1e-6)


def test_a_window_is_applied_after_the_rescaling(tmp_path):
    values = np.array([[0, 100, 150, 200, 255]], dtype=np.uint8)
    window = {"WindowCenter": 300.5, "WindowWidth": 201, "RescaleSlope": 2, "RescaleIntercept": 0}
    grey = one_frame(write_dicom(tmp_path / "a", values, **window))
    np.testing.assert_allclose(grey, [[0, 0, 0.5, 1, 1]], atol=1e-6)  # twice the values, from 200 to 400


def test_colours_become_luma(tmp_path):
    np.testing.assert_array_equal(one_frame(write_dicom(tmp_path / "rgb", COLOURS, "RGB")), LUMA)
    np.testing.assert_allclose(one_frame(write_dicom(tmp_path / "ybr", YBR, "YBR_FULL")), LUMA, atol=2 / 255)
    np.testing.assert_array_equal(one_frame(write_dicom(tmp_path / "rle", COLOURS, "RGB", syntax=RLELossless)), LUMA)


def test_palette_colours_are_looked_up(tmp_path):
    table = {}
    for name, plane in zip(("Red", "Green", "Blue"), np.moveaxis(COLOURS.reshape(-1, 3), 1, 0), strict=True):
        table[f"{name}PaletteColorLookupTableDescriptor"] = [plane.size, 0, 16]
        table[f"{name}PaletteColorLookupTableData"] = (plane.astype("<u2") * 257).tobytes()
    indices = np.arange(GREY.size, dtype=np.uint8).reshape(GREY.shape)
    np.testing.assert_array_equal(one_frame(write_dicom(tmp_path / "a", indices, "PALETTE COLOR", **table)), LUMA)


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_every_frame_of_a_multi_frame_file(syntax, tmp_path):
    movie = np.stack([COLOURS, COLOURS // 2, COLOURS // 3])
    source = DicomFile(write_dicom(tmp_path / "a.dcm", movie, "RGB", syntax=syntax))
    frames = list(source.frames())
    assert source.count == len(frames) == 3
    for frame, pixels in zip(frames, movie, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.fromarray(pixels).convert("L"), np.float32) / 255)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"SequenceOfUltrasoundRegions": [region(0.01, -0.02)]}, (0.2, 0.1)),
        ({"SequenceOfUltrasoundRegions": [region(0.01, 0.02), region(0.01, 0.02)]}, (0.2, 0.1)),
        ({"SequenceOfUltrasoundRegions": [region(0.01, 0.02), region(0.03, 0.03)]}, None),  # two zooms side by side
        ({"SequenceOfUltrasoundRegions": [region(0.01, 0.02), region(0.5, 0.5, units=4)]}, (0.2, 0.1)),  # s: M-mode
        ({"SequenceOfUltrasoundRegions": [region(0.01, 0.02, spatial_format=3)], "PixelSpacing": [2, 3]}, (2, 3)),
        ({"SequenceOfUltrasoundRegions": [region(0, 0)]}, None),
    ],
)
def test_size_of_a_pixel(elements, expected, tmp_path):
    spacing = DicomFile(write_dicom(tmp_path / "a.dcm", GREY, **elements)).spacing
    assert spacing == (None if expected is None else pytest.approx(expected))


def test_damaged_files_are_told_in_one_line(tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", GREY).read_bytes()
    (tmp_path / "short.dcm").write_bytes(whole[:-20])
    (tmp_path / "text.dcm").write_text("no DICOM")
    empty = header()
    empty.file_meta.MediaStorageSOPInstanceUID = empty.SOPInstanceUID
    empty.save_as(tmp_path / "empty.dcm", enforce_file_format=True)
    for name in ("short", "text", "empty"):
        with pytest.raises(DataError, match=rf"{name}\.dcm: cannot be read as a DICOM image \(.*\); copy it again$"):
            list(DicomFile(tmp_path / f"{name}.dcm").frames())


def test_a_file_with_fewer_frames_than_it_says_gives_those_it_has_at_most(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.stack([GREY, GREY]), NumberOfFrames=3)
    with pytest.raises(DataError, match="cannot be read as a DICOM image"):
        list(DicomFile(path).frames())


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(DataError, match=r"DICOM needs pydicom_of_tomorrow .*pip install ultrarefiner-monai\[dicom\]'$"):
        import_dicom("pydicom_of_tomorrow")
