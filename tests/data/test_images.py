"""Every way a file may store a picture gives the same array (H, W), and masks merge by the written rule."""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import open_image, read_grey, read_mask
from ultrarefiner_monai.errors import DataError

HEIGHT, WIDTH = 20, 30  # asymmetric and not square: a transposed or flipped reader cannot pass
GREY = (np.arange(HEIGHT)[:, None] * 8 + np.arange(WIDTH)[None] * 3).astype(np.uint8)


def _palette(grey: np.ndarray) -> Image.Image:
    """Palette image whose indices run backwards, so that indices are never the colours."""
    image = Image.fromarray(255 - grey)
    paletted = Image.frombytes("P", image.size, image.tobytes())
    paletted.putpalette([255 - index for index in range(256) for _ in range(3)])
    return paletted


def _big_endian() -> Image.Image:
    return Image.frombytes("I;16B", (WIDTH, HEIGHT), (GREY.astype(">u2") * 257).tobytes())


def _with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(np.full_like(GREY, 7)))  # nearly transparent: must not darken the picture
    return image


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _write_png(stem: Path, samples: np.ndarray, kind: int, depth: int = 8, interlaced: bool = False) -> Path:
    """PNG of samples (H, W, channels) in the kinds that Pillow reads but cannot write (PNG specification, sections 8, 11)."""

    def rows(part: np.ndarray) -> bytes:
        flat = part.reshape(len(part), -1)
        if depth == 4:
            flat = flat[:, ::2] * 16 + flat[:, 1::2]
        return b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in flat)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [samples[y::down, x::across] for y, x, down, across in ADAM7] if interlaced else [samples]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, kind, 0, 0, int(interlaced))
    body = zlib.compress(b"".join(rows(part) for part in parts if part.size))
    path = stem.with_suffix(".png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def _saved(make: Callable[[], Image.Image], suffix: str = "png", **options: object) -> Callable[[Path], Path]:
    """A writer of the picture that `make` makes, under the given stem."""

    def write(stem: Path) -> Path:
        path = stem.with_suffix(f".{suffix}")
        make().save(path, **options)
        return path

    return write


THREE, WIDE = np.repeat(GREY[..., None], 3, axis=2), GREY[..., None].astype(int) * 257
ALPHA = np.full((HEIGHT, WIDTH, 1), 7)
JPEG = {"suffix": "jpg", "quality": 100, "subsampling": 0}  # lossy: to 1/255

STORED = {
    "L": _saved(lambda: Image.fromarray(GREY)),
    "L with a transparent value": _saved(lambda: Image.fromarray(GREY), transparency=30),
    "RGB": _saved(lambda: Image.fromarray(GREY).convert("RGB")),
    "RGB with a transparent colour": _saved(lambda: Image.fromarray(GREY).convert("RGB"), transparency=(30, 30, 30)),
    "RGBA": _saved(lambda: _with_alpha("RGBA")),
    "LA": _saved(lambda: _with_alpha("LA")),
    "P": _saved(lambda: _palette(GREY)),
    "P with a transparent entry": _saved(lambda: _palette(GREY), transparency=3),
    "P with alpha": _saved(lambda: _palette(GREY), transparency=bytes(range(256))),
    "I;16": _saved(lambda: Image.fromarray(GREY.astype(np.uint16) * 257)),
    "I, TIFF": _saved(lambda: Image.fromarray(GREY.astype(np.int32) * 257), "tiff"),
    "I;16B, TIFF": _saved(_big_endian, "tiff"),
    "CMYK, TIFF": _saved(lambda: Image.fromarray(GREY).convert("RGB").convert("CMYK"), "tiff"),
    "BMP": _saved(lambda: Image.fromarray(GREY), "bmp"),
    "grey JPEG": _saved(lambda: Image.fromarray(GREY), **JPEG),
    "YCbCr JPEG": _saved(lambda: Image.fromarray(GREY).convert("RGB"), **JPEG),
    "CMYK JPEG": _saved(lambda: Image.fromarray(GREY).convert("RGB").convert("CMYK"), **JPEG),
    "interlaced grey": partial(_write_png, samples=GREY[..., None], kind=0, interlaced=True),
    "interlaced RGB": partial(_write_png, samples=THREE, kind=2, interlaced=True),
    "16-bit RGB": partial(_write_png, samples=np.repeat(WIDE, 3, axis=2), kind=2, depth=16),
    "16-bit grey-alpha": partial(_write_png, samples=np.concatenate([WIDE, ALPHA * 257], axis=2), kind=4, depth=16),
}


@pytest.mark.parametrize("stored", STORED)
def test_a_picture_reads_the_same_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    grey = read_grey(STORED[stored](tmp_path / "picture"))
    assert grey.dtype == np.float32
    assert grey.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(grey, GREY / 255, atol=(1.01 if "JPEG" in stored else 0.01) / 255)


def test_four_bits_span_black_to_white(tmp_path: Path) -> None:
    values = np.arange(16).repeat(2)[None, :, None].repeat(4, axis=0)
    path = _write_png(tmp_path / "picture", values, kind=0, depth=4)
    np.testing.assert_allclose(read_grey(path), values[..., 0] / 15, atol=1e-6)


def test_a_colour_palette_in_odd_order_is_luma(tmp_path: Path) -> None:
    """Indices 0, 1, 2 hold blue, red and grey: neither order nor brightness of the indices means anything."""
    image = Image.fromarray(np.array([[0, 1, 2], [2, 2, 0]], np.uint8)).convert("L")
    paletted = Image.frombytes("P", image.size, image.tobytes())
    paletted.putpalette([0, 0, 255, 255, 0, 0, 90, 90, 90])
    paletted.save(tmp_path / "picture.png")
    luma = np.array([[0.114, 0.299, 90 / 255], [90 / 255, 90 / 255, 0.114]])  # ITU-R BT.601
    np.testing.assert_allclose(read_grey(tmp_path / "picture.png"), luma, atol=1 / 255)


TURNED = {  # what a viewer shows for each orientation (EXIF 2.32, table 6)
    2: np.fliplr,
    3: partial(np.rot90, k=2),
    4: np.flipud,
    5: np.transpose,
    6: partial(np.rot90, k=-1),
    7: lambda grey: np.rot90(grey.T, k=2),
    8: np.rot90,
}


def _turnable(stem: Path, suffix: str, values: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tif": {"tiffinfo": exif}, "lzw.tif": {"tiffinfo": exif, "compression": "tiff_lzw"}}
    path = stem.with_suffix(f".{suffix}")
    Image.fromarray(values).save(path, **options.get(suffix, {"exif": exif, "quality": 100}))
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "lzw.tif"])
@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_tags_turn_images_and_masks(orientation: int, suffix: str, tmp_path: Path) -> None:
    expected = TURNED[orientation](GREY)
    path = _turnable(tmp_path / "picture", suffix, GREY, orientation)
    np.testing.assert_allclose(read_grey(path), expected / 255, atol=1.01 / 255)
    mask = _turnable(tmp_path / "mask", suffix, np.where(SQUARE, np.uint8(255), np.uint8(0)), orientation)
    np.testing.assert_array_equal(read_mask(mask), TURNED[orientation](SQUARE))
    with open_image(path) as image:
        assert image.info["orientation"] == orientation


def test_deep_values_are_turned_too(tmp_path: Path) -> None:
    for suffix in ("png", "tif"):
        path = _turnable(tmp_path / "picture", suffix, GREY.astype(np.uint16) * 257, 6)
        np.testing.assert_allclose(read_grey(path), np.rot90(GREY, k=-1) / 255, atol=1e-6)


def test_a_damaged_tag_turns_nothing(tmp_path: Path) -> None:
    for exif in (b"Exif\0\0no tag at all", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"):
        Image.fromarray(GREY).save(tmp_path / "picture.jpg", quality=100, exif=exif)
        np.testing.assert_allclose(read_grey(tmp_path / "picture.jpg"), GREY / 255, atol=1.01 / 255)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_white_is_told_from_the_largest_value(bits: int, suffix: str, tmp_path: Path) -> None:
    """The largest of the fewest of 8, 12 and 16 bits that hold all; a 10-bit picture is taken for one of 12."""
    values = np.array([[0, 1, (1 << bits) - 1]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"picture.{suffix}")
    white = {8: 255, 10: 4095, 12: 4095, 14: 65535, 16: 65535}[bits]
    np.testing.assert_allclose(read_grey(tmp_path / f"picture.{suffix}"), values / white, rtol=1e-6)


def test_zero_is_white_where_a_deep_tiff_says_so(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "picture.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "picture.tif") as stored:
        assert stored.tag_v2[262] == 0
    np.testing.assert_allclose(read_grey(tmp_path / "picture.tif"), 1 - values / 4095, atol=1e-6)


def test_sixteen_bit_colours_that_would_be_black_are_refused(tmp_path: Path) -> None:
    """Pillow keeps the upper byte of each channel, which 12 bits hardly reach."""
    dark = _write_png(tmp_path / "picture", np.repeat(GREY[..., None].astype(int) * 16, 3, axis=2), kind=2, depth=16)
    with pytest.raises(
        DataError, match=r"picture\.png: colours with 16 bits that use 12 at most, .*; save it in grey or"
    ):
        read_grey(dark)
    assert not read_mask(_write_png(tmp_path / "mask", np.zeros((HEIGHT, WIDTH, 3), int), kind=2, depth=16)).any()


def test_colours_become_luma(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
    np.testing.assert_allclose(read_grey(tmp_path / "red.png"), 0.299, atol=1 / 255)  # ITU-R BT.601


def test_colour_doppler_is_luma_where_it_glows_and_the_grey_original_elsewhere(tmp_path: Path) -> None:
    picture = THREE.copy()
    picture[5:10, 12:20] = (200, 40, 0)
    Image.fromarray(picture).save(tmp_path / "doppler.png")
    expected = GREY / 255
    expected[5:10, 12:20] = (0.299 * 200 + 0.587 * 40) / 255
    np.testing.assert_allclose(read_grey(tmp_path / "doppler.png"), expected, atol=1 / 255)


def test_a_one_bit_picture_is_black_and_white(tmp_path: Path) -> None:
    bits = GREY > 100
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "bits.png"), bits.astype(np.float32))


def test_orientation_is_rows_then_columns(tmp_path: Path) -> None:
    picture = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    picture[2, 25] = 255  # near the top, at the right
    Image.fromarray(picture).save(tmp_path / "dot.png")
    assert np.argwhere(read_grey(tmp_path / "dot.png")).tolist() == [[2, 25]]
    assert np.argwhere(read_mask(tmp_path / "dot.png")).tolist() == [[2, 25]]


def test_size_is_width_then_height(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "picture.png")
    stretched = read_grey(tmp_path / "picture.png", size=(60, 40))
    assert stretched.shape == (40, 60)
    assert 0 <= stretched.min() <= stretched.max() <= 1
    np.testing.assert_allclose(stretched[20, 30], GREY[10, 15] / 255, atol=0.03)
    assert read_mask(tmp_path / "picture.png", size=(60, 40)).shape == (40, 60)


@pytest.mark.parametrize(("top", "white"), [(1, 1), (0.4, 1), (255, 255), (3000, 4095), (65535, 65535)])
def test_floating_point_values_are_fractions_or_whole_numbers(top: float, white: int, tmp_path: Path) -> None:
    values = (GREY / GREY.max() * top).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "picture.tiff")
    np.testing.assert_allclose(read_grey(tmp_path / "picture.tiff"), values / white, rtol=1e-6)


@pytest.mark.parametrize("values", [(-0.1, 1), (0, 1.02), (0, np.nan), (0, np.inf), (0, 70000)])
def test_floating_point_values_without_a_range_are_refused(values: tuple[float, float], tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "picture.tiff")
    for read in (read_grey, read_mask):
        with pytest.raises(
            DataError, match=r"picture\.tiff: expected values in 0\.\.65535 or 0\.\.1, found float32 from"
        ):
            read(tmp_path / "picture.tiff")


SQUARE = np.zeros((HEIGHT, WIDTH), dtype=bool)
SQUARE[3:8, 4:20] = True


def _coloured(colour: tuple[int, ...]) -> Image.Image:
    return Image.fromarray((SQUARE[..., None] * np.array(colour)).astype(np.uint8))


def _rgba_mask() -> Image.Image:
    image = _coloured((255, 255, 255)).convert("RGBA")
    image.putalpha(255)  # opaque everywhere, as in BUSI: alpha counted as a channel would make all of it lesion
    return image


def _colour_classes() -> Image.Image:
    """Benign green left, malignant red right, as BUS-UCLM would mark both in one picture."""
    left = (np.arange(WIDTH) < 10)[None]
    return Image.fromarray(np.stack([SQUARE & ~left, SQUARE & left, SQUARE & False], axis=2).astype(np.uint8) * 255)


def _two_colour_palette() -> Image.Image:
    """Lesion has index 0 and background index 1: indices taken for values would swap them."""
    image = Image.fromarray(1 - SQUARE.astype(np.uint8))
    paletted = Image.frombytes("P", image.size, image.tobytes())
    paletted.putpalette([255, 255, 255, 0, 0, 0])
    return paletted


MASKS = {
    "mode 1": lambda: Image.fromarray(SQUARE),
    "0/255": lambda: Image.fromarray(SQUARE.astype(np.uint8) * 255),
    "0/1": lambda: Image.fromarray(SQUARE.astype(np.uint8)),
    "green": lambda: _coloured((0, 255, 0)),
    "red": lambda: _coloured((255, 0, 0)),
    "green and red": _colour_classes,
    "palette": _two_colour_palette,
    "three-channel grey": lambda: _coloured((255, 255, 255)),
    "RGBA": _rgba_mask,
    "LA": lambda: _rgba_mask().convert("LA"),
    "16 bit, dark": lambda: Image.fromarray(SQUARE.astype(np.uint16) * 300),
    "16 bit": lambda: Image.fromarray(SQUARE.astype(np.uint16) * 65535),
    "fractions": lambda: Image.fromarray(np.where(SQUARE, np.float32(0.7), np.float32(0.2))),
    "254 and 255": lambda: Image.fromarray(np.where(SQUARE, 254 + np.indices(SQUARE.shape)[1] % 2, 0).astype(np.uint8)),
}


@pytest.mark.parametrize("stored", MASKS)
def test_a_mask_reads_the_same_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    path = tmp_path / ("mask.tif" if stored == "fractions" else "mask.png")
    MASKS[stored]().save(path)
    mask = read_mask(path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, SQUARE)


def test_grey_values_of_a_mask_are_cut_half_way(tmp_path: Path) -> None:
    values = np.array([[0, 3, 100, 127, 128, 254, 255]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, False, False, False, True, True, True]]


def test_a_blank_mask_is_blank(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png").any()


def test_several_masks_are_joined(tmp_path: Path) -> None:
    other = np.zeros_like(SQUARE)
    other[15:, 25:] = True
    Image.fromarray(SQUARE).save(tmp_path / "a.png")
    _coloured((0, 0, 0)).save(tmp_path / "blank.png")
    Image.fromarray(other.astype(np.uint8) * 255).save(tmp_path / "b.png")
    union = read_mask([tmp_path / "a.png", tmp_path / "blank.png", str(tmp_path / "b.png")])
    np.testing.assert_array_equal(union, SQUARE | other)


def test_masks_of_different_sizes_are_refused(tmp_path: Path) -> None:
    Image.fromarray(SQUARE).save(tmp_path / "a.png")
    Image.new("L", (7, 5)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"differ in size: a\.png 30x20, b\.png 7x5"):
        read_mask([tmp_path / "a.png", tmp_path / "b.png"])


def test_no_mask_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="at least one path"):
        read_mask([])


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "text", "folder"])
def test_unreadable_files_are_one_line(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    if fault == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif fault == "folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes(b"" if fault == "empty" else b"not a picture")
    for read in (read_grey, read_mask):
        with pytest.raises(DataError, match=r"picture\.png: (no such file|cannot be read as an image)") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_real_files_of_every_mode(shared_data: Path) -> None:
    busi = shared_data / "BUSI/Dataset_BUSI_with_GT/benign"
    rgba = [busi / "benign (4)_mask.png", busi / "benign (4)_mask_1.png"]
    assert 0 < read_mask(rgba[1]).mean() < 0.5  # its alpha is 255 everywhere
    assert read_mask(rgba).sum() > read_mask(rgba[0]).sum()
    busbra = shared_data / "BUS-BRA/BUSBRA"
    assert read_mask(busbra / "Masks/mask_0001-l.png").sum() == 5664  # the inventory's count; mode 1
    assert read_grey(busbra / "Images/bus_0001-l.png").shape == (353, 274)


def test_real_colour_doppler_is_luma(shared_data: Path) -> None:
    """The colours really do glow in this frame, and the reader gives 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
    (path,) = shared_data.rglob("images/ELCO_008.png")
    colours = np.asarray(Image.open(path).convert("RGB")).astype(float)
    assert (np.ptp(colours, axis=2) > 60).mean() > 0.01
    np.testing.assert_allclose(read_grey(path), colours @ (0.299, 0.587, 0.114) / 255, atol=1 / 255)


@pytest.mark.parametrize(
    ("name", "head", "step"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "found a HEIC picture; save it as PNG or JPEG"),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "found a HEIC picture; save it as PNG or JPEG"),
        (
            "a.pdf",
            b"%PDF-1.7\n",
            "found a PDF document; save its images as PNG, such as with 'pdfimages -png FILE NAME'",
        ),
    ],
)
def test_what_pictures_come_in_and_is_not_read_has_its_own_next_step(name, head, step, tmp_path):
    (tmp_path / name).write_bytes(head + bytes(200))
    with pytest.raises(DataError) as refused:
        read_grey(tmp_path / name)
    assert str(refused.value) == f"{tmp_path / name}: expected PNG, JPEG, BMP or TIFF, {step}"
