"""Every way a file may store a picture gives the same array (H, W), and masks merge by the written rule."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.images import read_grey, read_mask

HEIGHT, WIDTH = 20, 30  # asymmetric and not square: a transposed or flipped reader cannot pass
GREY = (np.arange(HEIGHT)[:, None] * 8 + np.arange(WIDTH)[None] * 3).astype(np.uint8)


def _palette(grey: np.ndarray) -> Image.Image:
    """Palette image whose indices run backwards, so that indices are never the colours."""
    image = Image.fromarray(255 - grey)
    paletted = Image.frombytes("P", image.size, image.tobytes())
    paletted.putpalette([255 - index for index in range(256) for _ in range(3)])
    return paletted


def _with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(np.full_like(GREY, 7)))  # nearly transparent: must not darken the picture
    return image


STORED = {
    "L": lambda: Image.fromarray(GREY),
    "RGB": lambda: Image.fromarray(GREY).convert("RGB"),
    "RGBA": lambda: _with_alpha("RGBA"),
    "LA": lambda: _with_alpha("LA"),
    "P": lambda: _palette(GREY),
    "16 bit": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", STORED)
def test_a_picture_reads_the_same_however_it_is_stored(mode: str, tmp_path: Path) -> None:
    STORED[mode]().save(tmp_path / "picture.png")
    grey = read_grey(tmp_path / "picture.png")
    assert grey.dtype == np.float32
    assert grey.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(grey, GREY / 255, atol=1 / 255 / 2)


def test_a_palette_with_transparency_reads_as_colours(tmp_path: Path) -> None:
    _palette(GREY).save(tmp_path / "picture.png", transparency=3)
    np.testing.assert_allclose(read_grey(tmp_path / "picture.png"), GREY / 255, atol=1e-6)


def test_colours_become_luma(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
    np.testing.assert_allclose(read_grey(tmp_path / "red.png"), 0.299, atol=1 / 255)  # ITU-R BT.601


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


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "picture.tiff")
    for read in (read_grey, read_mask):
        with pytest.raises(DataError, match=r"picture\.tiff: floating-point pixels have no known range"):
            read(tmp_path / "picture.tiff")


SQUARE = np.zeros((HEIGHT, WIDTH), dtype=bool)
SQUARE[3:8, 4:20] = True


def _coloured(colour: tuple[int, ...]) -> Image.Image:
    return Image.fromarray((SQUARE[..., None] * np.array(colour)).astype(np.uint8))


def _rgba_mask() -> Image.Image:
    image = _coloured((255, 255, 255)).convert("RGBA")
    image.putalpha(255)  # opaque everywhere, as in BUSI: alpha counted as a channel would make all of it lesion
    return image


MASKS = {
    "mode 1": lambda: Image.fromarray(SQUARE),
    "0/255": lambda: Image.fromarray(SQUARE.astype(np.uint8) * 255),
    "0/1": lambda: Image.fromarray(SQUARE.astype(np.uint8)),
    "green": lambda: _coloured((0, 255, 0)),
    "red": lambda: _coloured((255, 0, 0)),
    "RGBA": _rgba_mask,
    "16 bit": lambda: Image.fromarray(SQUARE.astype(np.uint16) * 65535),
    "254 and 255": lambda: Image.fromarray(np.where(SQUARE, 254 + np.indices(SQUARE.shape)[1] % 2, 0).astype(np.uint8)),
}


@pytest.mark.parametrize("stored", MASKS)
def test_a_mask_reads_the_same_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    MASKS[stored]().save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
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
