"""Every transfer syntax that is promised: the picture of the uncompressed file, or one clear line."""

import io

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.images.dicom import DicomFile
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict
from ultrarefiner_monai.errors import DataError

pytest.importorskip("pydicom", reason="DICOM is an optional extra")
jpeg_ls = pytest.importorskip("jpeg_ls", reason="comes with highdicom, of the extra 'dicom'")
from made_dicom import write_dicom  # noqa: E402
from pydicom import uid  # noqa: E402
from pydicom.pixels import get_decoder  # noqa: E402

ROWS, COLUMNS = np.mgrid[:46, :62]  # no multiples of JPEG's blocks
LESION = (ROWS - 20) ** 2 + (COLUMNS - 35) ** 2 < 120
GREY = (120 + ROWS + COLUMNS - 80 * LESION).astype(np.uint8)
DEEP = (GREY.astype(np.uint16) << 8) + (ROWS * COLUMNS % 256).astype(np.uint16)  # all 16 bits are used
COLOURS = np.stack([GREY, GREY // 2 + 60, 250 - GREY], axis=-1)
PICTURES = [pytest.param(pixels, id=name) for name, pixels in (("8", GREY), ("16", DEEP), ("colours", COLOURS))]
LOSSLESS = (
    *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *(uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless),
)
# An orthonormal transform of 8 x 8 pixels, its 64 coefficients rounded to whole numbers (quality 100): no pixel is off by
# more than sqrt(64) / 2 = 4. Rounding in the transforms, to YCbCr, back to RGB and to luma adds less than one level each.
JPEG_LEVELS = 7
NEAR = 2  # levels, the bound that JPEG-LS is given
DECIBELS = (
    45  # peak signal-to-noise ratio that JPEG 2000 is given; its encoder estimates it and misses it by less than 1
)


def named(syntax):
    return syntax.keyword


def movie(pixels, count):
    """The picture, or `count` frames that differ."""
    return pixels if count == 1 else np.stack([np.roll(pixels, 5 * frame, axis=0) for frame in range(count)])


def frames_of(pixels):
    """Frames of grey (H, W) or (N, H, W), or colours with one axis more."""
    return list(pixels) if pixels.ndim == (4 if pixels.shape[-1] == 3 else 3) else [pixels]


def encoded(pixels, **options):
    """A code stream of Pillow for each frame."""
    streams = []
    for frame in frames_of(pixels):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, **options)
        streams.append(buffer.getvalue())
    return streams


def photometric_of(pixels):
    return "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2"


def read(path):
    return np.stack(list(DicomFile(path).frames()))


def uncompressed(folder, pixels):
    return read(write_dicom(folder / "uncompressed.dcm", pixels, photometric_of(pixels)))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("pixels", PICTURES)
@pytest.mark.parametrize("syntax", LOSSLESS, ids=named)
def test_lossless_files_hold_the_picture_of_the_uncompressed_one(syntax, pixels, count, tmp_path):
    pixels = movie(pixels, count)
    streams, photometric = None, photometric_of(pixels)
    if syntax == uid.JPEG2000Lossless:
        streams = encoded(pixels, format="JPEG2000", no_jp2=True, irreversible=False, mct=1)
        photometric = "YBR_RCT" if photometric == "RGB" else photometric
    path = write_dicom(tmp_path / "a.dcm", pixels, photometric, syntax=syntax, streams=streams)
    found = read(path)
    assert len(found) == count
    np.testing.assert_array_equal(found, uncompressed(tmp_path, pixels))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("pixels", "photometric", "options"),
    [
        (GREY, "MONOCHROME2", {}),
        (COLOURS, "YBR_FULL_422", {"subsampling": "4:2:2"}),
        (COLOURS, "YBR_FULL", {"subsampling": "4:4:4"}),
        (COLOURS, "RGB", {"keep_rgb": True}),
    ],
)
@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit], ids=named)
def test_jpeg_is_off_by_no_more_than_its_quantisation(syntax, pixels, photometric, options, count, tmp_path):
    pixels = movie(pixels, count)
    streams = encoded(pixels, format="JPEG", quality=100, **options)
    found = read(write_dicom(tmp_path / "a.dcm", pixels, photometric, syntax=syntax, streams=streams))
    assert len(found) == count
    np.testing.assert_allclose(found, uncompressed(tmp_path, pixels), rtol=0, atol=JPEG_LEVELS / 255)


@pytest.mark.parametrize("pixels", PICTURES)
def test_lossy_jpeg_2000_has_the_signal_to_noise_ratio_that_was_asked_for(pixels, tmp_path):
    options = {"irreversible": True, "mct": 1, "quality_mode": "dB", "quality_layers": [DECIBELS]}
    streams = encoded(pixels, format="JPEG2000", no_jp2=True, **options)
    photometric = "YBR_ICT" if pixels is COLOURS else "MONOCHROME2"
    found = read(write_dicom(tmp_path / "a.dcm", pixels, photometric, syntax=uid.JPEG2000, streams=streams))
    error = found - uncompressed(tmp_path, pixels)
    assert 0 < np.sqrt((error**2).mean()) <= 10 ** ((1 - DECIBELS) / 20)


@pytest.mark.parametrize("pixels", [pytest.param(GREY, id="8"), pytest.param(DEEP, id="16")])
def test_near_lossless_jpeg_ls_is_off_by_no_more_than_it_was_told(pixels, tmp_path):
    bits = pixels.dtype.itemsize * 8
    shape = {"rows": pixels.shape[0], "columns": pixels.shape[1], "samples_per_pixel": 1, "bits_stored": bits}
    stream = bytes(jpeg_ls.encode_pixel_data(pixels.tobytes(), lossy_error=NEAR, **shape))
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax=uid.JPEGLSNearLossless, streams=[stream])
    levels = np.rint((read(path)[0].astype(float)) * (2**bits - 1)) - pixels
    assert 0 < np.abs(levels).max() <= NEAR


def without_a_decoder(path, syntax):
    """A file of 12 bits in a syntax that needs another package; its stream is never looked at."""
    return write_dicom(path, DEEP >> 4, bits=12, syntax=syntax, streams=[b"\xff\xd8\xff\xd9"])


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (uid.JPEGLosslessSV1, "pylibjpeg-libjpeg"),
        (uid.JPEGLossless, "pylibjpeg-libjpeg"),
        (uid.JPEGExtended12Bit, "pylibjpeg-libjpeg"),
        (uid.HTJ2KLossless, "pylibjpeg-openjpeg"),
    ],
)
def test_a_missing_decoder_is_named_with_the_command_that_installs_it(syntax, package, tmp_path):
    if set(get_decoder(syntax).available_plugins) - {"pillow"}:
        pytest.skip("a decoder for it is installed")
    with pytest.raises(DataError) as raised:
        DicomFile(without_a_decoder(tmp_path / "a.dcm", syntax))
    expected = f"stored as {syntax.name} ({syntax}), whose decoder is not installed"
    assert str(raised.value) == f"{tmp_path / 'a.dcm'}: {expected}; run 'pip install pylibjpeg {package}'"


def test_video_is_refused_by_its_name(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOURS, "YBR_PARTIAL_420", syntax=uid.MPEG2MPML, streams=[b"\0\0"])
    with pytest.raises(
        DataError, match=r"a\.dcm: stored as MPEG2.*, which pydicom does not decode; save it uncompressed$"
    ):
        DicomFile(path)


def test_the_other_files_of_a_folder_are_predicted(make_model, tmp_path):
    if get_decoder(uid.JPEGLosslessSV1).is_available:
        pytest.skip("a decoder for it is installed")
    folder = tmp_path / "in"
    folder.mkdir()
    without_a_decoder(folder / "a.dcm", uid.JPEGLosslessSV1)
    write_dicom(folder / "b.dcm", GREY, syntax=uid.JPEGLSLossless)
    summary = predict(folder, make_model("phase1")[0], Outputs(tmp_path / "out"))
    assert [row["mask"] for row in summary.rows] == ["masks/b.png"] and summary.exit_code == 1
    ((file, reason),) = summary.failures
    assert file == str(folder / "a.dcm") and "pip install pylibjpeg pylibjpeg-libjpeg" in reason
