"""Small pictures in every kind of file that is read, made for a test."""

import gzip
import struct
import zlib
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

GREY = (np.arange(24)[:, None] * 7 + np.arange(32)[None] * 2).astype(np.uint8)
SQUARE = np.zeros((24, 32), np.uint8)
SQUARE[6:14, 8:24] = 255


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG (ISO 15948, section 5.3)."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int, height: int, body: bytes, *more: bytes, bits: int = 8, colour: int = 0, interlaced: int = 0
) -> bytes:
    """A PNG that claims a size, with its pixels as they are and more chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *more, chunk(b"IDAT", zlib.compress(body, 9)), chunk(b"IEND", b"")])


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """A file's bytes."""
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pictures(grey: np.ndarray = GREY) -> dict[str, bytes]:
    """The grey values (H, W) uint8 in files by name, all but the JPEGs without a loss."""
    image = Image.fromarray(grey)
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    pages = {"save_all": True, "append_images": [Image.fromarray(255 - grey), image]}
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 1
    return {
        "grey.png": saved(image, "PNG"),
        "palette.png": saved(image.convert("P"), "PNG", transparency=3),
        "deep.png": saved(deep, "PNG"),
        "rgb.png": saved(image.convert("RGB"), "PNG", exif=turned),
        "rgba.png": saved(image.convert("RGBA"), "PNG"),
        "alpha.png": saved(image.convert("LA"), "PNG"),
        "text.png": png(
            *image.size, rows, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 99)), chunk(b"gAMA", b"\0" * 4)
        ),
        "jpeg.jpg": saved(image, "JPEG", quality=90, exif=turned),
        "progressive.jpg": saved(image.convert("RGB"), "JPEG", progressive=True),
        "bitmap.bmp": saved(image, "BMP"),
        "rgb.bmp": saved(image.convert("RGB"), "BMP"),
        **{
            f"{name}.tif": saved(image, "TIFF", compression=name)
            for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits")
        },
        "jpeg.tif": saved(image.convert("RGB"), "TIFF", compression="jpeg"),
        "deep.tif": saved(deep, "TIFF", tiffinfo=turned),
        "pages.tif": saved(image, "TIFF", compression="tiff_lzw", **pages),
    }


def binary(mask: np.ndarray = SQUARE) -> dict[str, bytes]:
    """A mask (H, W) of 0 and 255 in files that hold it exactly, by name."""
    image = Image.fromarray(mask)
    return {
        "one.png": saved(image.convert("1"), "PNG"),
        "one.bmp": saved(image.convert("1"), "BMP"),
        "group4.tif": saved(image.convert("1"), "TIFF", compression="group4"),
    }


def interlaced(grey: np.ndarray = GREY) -> bytes:
    """An interlaced PNG (ISO 15948, section 8.2), which Pillow reads and cannot write."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [grey[y::down, x::across] for y, x, down, across in passes]
    body = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    return png(grey.shape[1], grey.shape[0], body, interlaced=1)


def niftis(grey: np.ndarray = GREY) -> dict[str, bytes]:
    """The grey values in NIfTI files by name, x before y."""
    made = {}
    for name, dtype in (("bytes", np.uint8), ("shorts", np.int16), ("fractions", np.float32)):
        values = (grey.T / (255 if dtype == np.float32 else 1)).astype(dtype)
        image = nibabel.Nifti1Image(values, np.diag([0.1, 0.2, 1, 1]))
        image.header.set_xyzt_units("mm")
        made[f"{name}.nii"] = image.to_bytes()
    return made | {"bytes.nii.gz": gzip.compress(made["bytes.nii"], 6, mtime=0)}


def dicoms(folder: Path, grey: np.ndarray = GREY) -> dict[str, bytes]:
    """The grey values in DICOM files by name, written in a folder; several frames, colours, RLE, JPEG, deflated, bare."""
    from made_dicom import region, without_preamble, write_dicom
    from pydicom import uid

    rgb, frames = np.repeat(grey[..., None], 3, axis=2), np.stack([grey, 255 - grey])
    baseline = saved(Image.fromarray(grey), "JPEG", quality=90)
    jpeg_2000 = saved(Image.fromarray(grey), "JPEG2000", no_jp2=True)
    for name, pixels, options in (
        ("native", grey, {"SequenceOfUltrasoundRegions": [region(0.01, 0.02)], "WindowCenter": 90, "WindowWidth": 99}),
        ("deep", grey.astype(np.uint16) * 16, {"bits": 12}),
        ("rgb", rgb, {"photometric": "RGB"}),
        ("frames", frames, {}),
        ("rle", grey, {"syntax": uid.RLELossless}),
        ("rle_frames", frames, {"syntax": uid.RLELossless}),
        ("jpeg", grey, {"syntax": uid.JPEGBaseline8Bit, "streams": [baseline]}),
        ("jpeg_2000", grey, {"syntax": uid.JPEG2000Lossless, "streams": [jpeg_2000]}),
        ("deflated", grey, {"syntax": uid.DeflatedExplicitVRLittleEndian}),
        ("big", grey, {"syntax": uid.ExplicitVRBigEndian}),
        ("bare", grey, {}),
    ):
        write_dicom(folder / f"{name}.dcm", pixels, **{"photometric": "MONOCHROME2"} | options)
    without_preamble(folder / "bare.dcm", implicit=True)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.dcm"))}


def opened(name: str, content: bytes) -> bytes:
    """What a file's checksum covers: damage to that is found by no checksum once it is `sealed`."""
    return gzip.decompress(content) if name.endswith(".gz") else content


def sealed(name: str, content: bytes) -> bytes:
    """A file with checksums that are right again."""
    if name.endswith(".gz"):
        return gzip.compress(content, 1, mtime=0)
    if not name.endswith(".png"):
        return content
    made, place = bytearray(content[:8]), 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        made += chunk(content[place + 4 : place + 8], content[place + 8 : place + 8 + length])
        place += 12 + length
    return bytes(made)
