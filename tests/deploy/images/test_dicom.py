"""Grey values and pixel sizes of DICOM files: the same picture, whatever way it is stored."""

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.images.dicom import DicomFile, import_dicom
from ultrarefiner_monai.deploy.images.find import find_files, open_image_file
from ultrarefiner_monai.errors import DataError

pytest.importorskip("pydicom", reason="DICOM is an optional extra")
from made_dicom import header, region, without_preamble, write_dicom
from pydicom import dcmread
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

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


@pytest.mark.parametrize(("bits", "dtype", "low"), [(10, np.uint16, 0), (12, np.uint16, 0), (12, np.int16, -2048)])
def test_deeper_grey_values_are_divided_by_what_their_bits_hold(bits, dtype, low, tmp_path):
    values = (np.array([[0, 100, 2**bits - 1]]) + low).astype(dtype)
    expected = (values.astype(float) - low) / (2**bits - 1)
    np.testing.assert_allclose(one_frame(write_dicom(tmp_path / "a", values, bits=bits)), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize(("top", "white"), [(200, 255), (255, 255), (256, 4095), (4095, 4095), (4096, 65535)])
def test_sixteen_stored_bits_say_nothing_and_the_largest_value_tells_white(top, white, dtype, tmp_path):
    values = np.array([[0, top // 2, top]], dtype=dtype)
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        source = DicomFile(write_dicom(tmp_path / "a", values, photometric))
        (grey,) = source.frames()
        expected = values / white if photometric == "MONOCHROME2" else 1 - values / white
        np.testing.assert_allclose(grey, expected, atol=1e-6)
        assert source.notes == [f"grey values: white is {white}, the fewest of 8, 12, 16 bits that hold all values"]


def test_white_is_one_value_in_all_frames(tmp_path):
    movie = np.stack([np.full((4, 6), 100, np.uint16), np.full((4, 6), 3000, np.uint16)])
    frames = list(DicomFile(write_dicom(tmp_path / "a", movie)).frames())
    np.testing.assert_allclose([frame[0, 0] for frame in frames], [100 / 4095, 3000 / 4095], rtol=1e-6)


def test_values_below_zero_span_what_the_bits_hold(tmp_path):
    values = np.array([[-5, 0, 300]], dtype=np.int16)
    np.testing.assert_allclose(one_frame(write_dicom(tmp_path / "a", values)), (values + 32768.0) / 65535, atol=1e-6)


def test_a_window_comes_before_the_largest_value(tmp_path):
    values = np.array([[0, 100, 200, 4095]], dtype=np.uint16)
    source = DicomFile(write_dicom(tmp_path / "a", values, WindowCenter=150.5, WindowWidth=101))
    np.testing.assert_allclose(next(source.frames()), [[0, 0, 1, 1]], atol=1e-6)  # from 100 to 200
    empty = one_frame(write_dicom(tmp_path / "b", values, WindowCenter="", WindowWidth=""))
    np.testing.assert_allclose(empty, values / 4095, atol=1e-6)


def test_sixteen_bit_colours(tmp_path):
    wide = one_frame(write_dicom(tmp_path / "a", COLOURS.astype(np.uint16) * 257, "RGB"))
    np.testing.assert_array_equal(wide, LUMA)


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
        ({"SequenceOfUltrasoundRegions": [region(None, None)], "PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"PixelSpacing": "0.2"}, None),
        ({"PixelSpacing": ""}, None),
    ],
)
def test_size_of_a_pixel(elements, expected, tmp_path):
    spacing = DicomFile(write_dicom(tmp_path / "a.dcm", GREY, **elements)).spacing
    assert spacing == (None if expected is None else pytest.approx(expected))


TWO = "2 calibrated regions, pixels of "


@pytest.mark.parametrize(
    ("elements", "notes"),
    [
        ({}, []),
        ({"BodyPartExamined": "BREAST"}, []),
        ({"BodyPartExamined": "HEART"}, ["BodyPartExamined is HEART, not BREAST"]),
        ({"Modality": ""}, ["Modality is missing, not US"]),
        ({"UltrasoundColorDataPresent": 0}, []),
        (
            {"UltrasoundColorDataPresent": 1},
            ["the header tells of colour flow (Doppler), whose pixels are read as luma"],
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(0.01, 0.02), region(0.01, 0.02, data_type=2)]},
            [
                "the header tells of colour flow (Doppler), whose pixels are read as luma",
                f"{TWO}0.2 x 0.1 mm: their size of a pixel is used",
            ],
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(0.01, 0.01), region(0.02, 0.02)]},
            [f"{TWO}0.1 x 0.1, 0.2 x 0.2 mm: none is used, and values in mm are undefined"],
        ),
    ],
)
def test_what_a_header_says_is_noted(elements, notes, tmp_path):
    assert DicomFile(write_dicom(tmp_path / "a.dcm", GREY, **elements)).notes == notes


def test_coloured_pixels_are_noted(tmp_path):
    grey = np.repeat(GREY[..., None], 3, axis=2)
    doppler = grey.copy()
    doppler[2:4, 2:5] = (200, 40, 0)
    for pixels, notes in (
        (grey, []),
        (doppler, ["coloured pixels, such as colour Doppler or large marks, are read as luma"]),
    ):
        source = DicomFile(write_dicom(tmp_path / "a.dcm", pixels, "RGB"))
        list(source.frames())
        assert source.notes == notes


@pytest.mark.parametrize(
    ("elements", "found"),
    [
        ({"Modality": "CT"}, "is CT"),
        ({"Modality": "SEG"}, "is SEG"),
        ({"Modality": "IVUS"}, "is IVUS"),
        ({"Modality": "", "SOPClassUID": SecondaryCaptureImageStorage}, "is missing"),
    ],
)
def test_what_is_no_ultrasound_is_refused_by_name(elements, found, tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GREY, **elements)
    told = rf"a\.dcm: Modality {found}, not US \(ultrasound\); predict it all the same with --any_modality true$"
    with pytest.raises(DataError, match=told):
        DicomFile(path)
    source = DicomFile(path, any_modality=True)
    np.testing.assert_array_equal(next(source.frames()), GREY.astype(np.float32) / 255)
    assert source.notes == [f"Modality {found}, not US"]


@pytest.mark.parametrize("pixels", [GREY, np.stack([GREY, GREY // 2])])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_its_header_is_read_as_what_it_holds(implicit, pixels, tmp_path):
    source = DicomFile(without_preamble(write_dicom(tmp_path / "a.dcm", pixels), implicit))
    np.testing.assert_array_equal(np.stack(list(source.frames())), pixels.reshape(-1, 6, 9).astype(np.float32) / 255)
    kind = "Implicit" if implicit else "Explicit"
    assert source.notes == [f"no complete DICOM file header: read as {kind} VR Little Endian"]


def test_a_file_whose_header_lacks_the_transfer_syntax_is_read(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GREY)
    made = dcmread(path)
    del made.file_meta.TransferSyntaxUID, made.SOPInstanceUID
    made.save_as(path, enforce_file_format=False, implicit_vr=False, little_endian=True)
    source = DicomFile(path)
    np.testing.assert_array_equal(next(source.frames()), GREY.astype(np.float32) / 255)
    assert source.header.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path):
    path = without_preamble(write_dicom(tmp_path / "a.dcm", GREY, syntax=RLELossless))
    with pytest.raises(DataError, match=r"its pixels are compressed, and it does not say how"):
        list(DicomFile(path).frames())


@pytest.mark.parametrize("implicit", [False, True])
def test_files_without_a_suffix_are_found_by_what_they_hold(implicit, tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    write_dicom(folder / "IM0001", GREY)
    without_preamble(write_dicom(folder / "sub/1.2.840.113", GREY), implicit)
    random = np.random.default_rng(0)
    for name, content in {
        "README": b"some text " * 30,
        "zeros": bytes(500),
        "empty": b"",
        "short": b"\x08\x00",
        "noise.bin": random.bytes(4000),
        "words": b"\x08\x00\x05\x00 and then no length that a first element has" + bytes(200),
        "DICOMDIR": (folder / "IM0001").read_bytes(),
    }.items():
        (folder / name).write_bytes(content)
    found, left = find_files([folder], tmp_path / "out")
    assert ([file.name for file in found], left) == (["IM0001", "sub/1.2.840.113"], [])
    for file in found:
        np.testing.assert_array_equal(next(open_image_file(file.path).frames()), GREY.astype(np.float32) / 255)


def test_damaged_files_are_told_in_one_line(tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", GREY).read_bytes()
    (tmp_path / "short.dcm").write_bytes(whole[:-20])
    (tmp_path / "text.dcm").write_text("no DICOM")
    empty = header()
    empty.file_meta.MediaStorageSOPInstanceUID = empty.SOPInstanceUID
    empty.save_as(tmp_path / "empty.dcm", enforce_file_format=True)
    for name in ("short", "text", "empty"):
        with pytest.raises(
            DataError, match=rf"{name}\.dcm: cannot be read as a DICOM image \(.*\); copy it again from its source$"
        ):
            list(DicomFile(tmp_path / f"{name}.dcm").frames())


@pytest.mark.parametrize("bare", [False, True])
def test_only_one_kind_of_error_comes_from_damaged_files(bare, tmp_path):
    rng = np.random.default_rng(1)
    path = write_dicom(tmp_path / "a.dcm", GREY, SequenceOfUltrasoundRegions=[region(0.01, 0.02)], PixelSpacing=[1, 1])
    whole = (without_preamble(path) if bare else path).read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0 if bare else 128, len(whole), 2):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(DicomFile(path).frames())
        except DataError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_file_with_fewer_frames_than_it_says_gives_those_it_has_at_most(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.stack([GREY, GREY]), NumberOfFrames=3)
    with pytest.raises(DataError, match="cannot be read as a DICOM image"):
        list(DicomFile(path).frames())


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(DataError, match=r"DICOM needs pydicom_of_tomorrow .*pip install ultrarefiner-monai\[dicom\]'$"):
        import_dicom("pydicom_of_tomorrow")
