"""Files that are not what their names say, or ask for much: refused by their headers, and nothing is started for them."""

import ast
import os
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fuzzing import MIB, fuzz
from picture_kinds import GREY, chunk, niftis, png, saved
from PIL import Image
from test_damaged_pictures import measured, predicted, verified

import ultrarefiner_monai
from ultrarefiner_monai.data.decoders import FORMATS, MAX_SCANS, VARIABLE
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.deploy.images import open_image_file
from ultrarefiner_monai.errors import DataError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
READ_ALL = """
import sys
from pathlib import Path
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.integrity.listed_files import read_listed
from ultrarefiner_monai.deploy.images import open_image_file
from ultrarefiner_monai.errors import DataError
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (read_grey, read_mask, lambda path: list(open_image_file(path).frames())):
        try:
            read(path)
        except DataError as error:
            print(error)
    print(read_listed(path.parent, path.name, None).problem.message)
"""


@pytest.mark.fault(24)
def test_no_helper_is_started_for_a_picture_that_is_another_format(tmp_path):
    """A planted Ghostscript would write a canary; Pillow looks for several names of it."""
    helpers, folder, canary = tmp_path / "bin", tmp_path / "in", tmp_path / "canary"
    helpers.mkdir()
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "djpeg", "convert"):
        (helpers / name).write_text(f"#!/bin/sh\necho {name} >> '{canary}'\n")
        (helpers / name).chmod(0o755)
    for suffix in FORMATS:
        (folder / f"a{suffix}").write_bytes(EPS)
    found = {**os.environ, "PATH": f"{helpers}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(folder)], env=found, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4 * len(FORMATS) and all("of no known format" in line for line in lines)
    assert not canary.exists()


def test_every_picture_is_opened_as_a_promised_format():
    """Without `formats` Pillow tries some forty decoders."""
    package = Path(ultrarefiner_monai.__file__).parent
    calls = [
        (path, node)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
    ]
    assert len(calls) >= 2
    assert not [
        f"{path}:{node.lineno}" for path, node in calls if "formats" not in {word.arg for word in node.keywords}
    ]


@pytest.mark.fault(24)
def test_what_a_file_holds_is_what_its_suffix_promises(tmp_path):
    image = Image.fromarray(GREY)
    contents = {
        form: saved(image, form) for form in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000", "DDS", "PDF")
    }
    for suffix, promised in FORMATS.items():
        path = tmp_path / f"picture{suffix}"
        for form, content in (
            contents | {"DICOM": b"\0" * 128 + b"DICM" + b"\0" * 99, "NIfTI": niftis()["bytes.nii"]}
        ).items():
            path.write_bytes(content)
            if form == promised:
                assert read_grey(path).shape == GREY.shape
                continue
            for read in (read_grey, read_mask, predicted, verified):
                said = (
                    "found a PDF document; save"
                    if form == "PDF"
                    else f"expected {promised} by its name, found {form}; rename|no known format"
                )
                with pytest.raises(DataError, match=said):
                    read(path)


def tiff(*entries):
    """A TIFF of one directory with whole numbers, and a kilobyte of zeros for pixels."""
    number = [len(entries).to_bytes(2, "little"), *(b"".join(_entry(*entry) for entry in sorted(entries)),), b"\0" * 4]
    return b"II*\0\x08\0\0\0" + b"".join(number) + b"\0" * 1024


def _entry(tag, value):
    return tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")


def a_nifti(shape, dtype, content):
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + b"\0" * 4 + content


def packed(head, mebibytes, window=zlib.MAX_WBITS | 16):
    """A file's beginning and zeros behind it, as gzip in a thousandth of the bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    zeros = (packer.compress(bytes(2**20)) for _ in range(mebibytes))
    return b"".join([packer.compress(head), *zeros, packer.flush()])


def many_scans():
    """A progressive JPEG whose last scan comes again and again."""
    content = saved(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * (MAX_SCANS + 1) + content[-2:]


def blank_pages():
    page = Image.new("1", (2000, 2000))
    return saved(page, "TIFF", compression="group4", save_all=True, append_images=[page] * 9)


PIXELS = tiff((256, 13000), (257, 13000), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, 13000), (279, 1024))
TILES = tiff(
    (256, 9), (257, 9), (258, 8), (259, 8), (262, 1), (277, 1), (322, 16384), (323, 16384), (324, 200), (325, 99)
)
LIMIT = r"more than the limit of \d+; for a file that you trust, set ULTRAREFINER_MAX_PIXELS=\d+ in the environment"
BOMBS = {
    "one_bit.png": (lambda: png(9300, 9300, b"\0" * 1164 * 9300, bits=1), LIMIT),
    "colours.png": (lambda: png(9300, 9300, b"", bits=16, colour=6), LIMIT),
    "beyond_pillow.png": (lambda: png(60000, 60000, b""), "more than 32767 on a side|exceeds limit"),
    "thin.png": (lambda: png(10**6, 1, b""), "more than 32767 on a side"),
    "text.png": (lambda: png(8, 8, b"", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 9))), "too large"),
    "profile.png": (lambda: png(8, 8, b"", chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26), 9))), "too large"),
    "huge.jpg": (lambda: saved(Image.new("L", (8, 8)), "JPEG").replace(b"\0\x08\0\x08", b"\x27\x10\x27\x10"), LIMIT),
    "scans.jpg": (many_scans, r"JPEG with \d+ scans, more than the limit of 100"),
    "claims.bmp": (lambda: saved(Image.new("L", (8, 8)), "BMP").replace(b"\x08\0\0\0" * 2, b"\0\x20\0\0" * 2), LIMIT),
    "claims.tif": (lambda: PIXELS, LIMIT),
    "tiles.tif": (lambda: TILES, LIMIT),
    "no_size.tif": (lambda: tiff((258, 8), (259, 1), (262, 1), (273, 200)), "no known format"),
    "pages.tif": (blank_pages, r"10 frames in \d+ bytes claim 40000000 pixels, " + LIMIT),
    "claims.nii": (lambda: a_nifti((20000, 20000), np.float64, b"\0" * 99), LIMIT),
    "short.nii": (
        lambda: a_nifti((4000, 4000), np.float64, b"\0" * 99),
        "expected 128000352 bytes by its header, found 451",
    ),
    "bomb.nii.gz": (lambda: packed(a_nifti((10000, 10000), np.uint8, b""), 96), LIMIT),
    "behind.nii.gz": (lambda: packed(a_nifti((10, 10), np.uint8, b""), 200), "expected 452 bytes by its header, found"),
    "volume.nii": (lambda: a_nifti((500, 500, 500), np.uint8, b""), r"Expected 125000000 bytes, got 0 bytes"),
    "nothing.nii": (lambda: a_nifti((0, 5), np.uint8, b""), "size 0 x 5: expected one pixel at least"),
    "complex.nii": (lambda: a_nifti((2, 2), np.complex64, bytes(32)), "expected a grey plane, found complex64"),
}


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_ask_for_much_are_refused_by_their_headers(name, tmp_path):
    """Within the two seconds and the memory that `fuzz` allows, in every reader."""
    make, reason = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    readers = (predicted,) if ".nii" in name else (read_grey, read_mask, predicted, verified, measured)
    if name == "pages.tif":
        readers = (predicted,)  # the others read the first page alone
    for read in readers:
        with pytest.raises(DataError, match=reason):
            read(path)
        outcome = fuzz(read, lambda generator: path, 1, (DataError,))
        assert outcome.refused == 1 and not outcome.faults


@pytest.mark.fault(25)
def test_dicom_headers_that_claim_more_than_the_file_holds(tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import write_dicom
    from pydicom import dcmread, dcmwrite, uid

    small = {"native": GREY, "rle": GREY, "deflated": GREY, "jpeg": GREY, "jpeg_2000": GREY}
    syntaxes = {"rle": uid.RLELossless, "deflated": uid.DeflatedExplicitVRLittleEndian}
    for name, changes, reason in (
        ("native", {"Rows": 60000, "Columns": 60000}, "more than 32767 on a side"),
        ("native", {"Rows": 6000, "Columns": 6000}, LIMIT),
        ("native", {"Rows": 4000, "Columns": 4000}, "expected 16000000 bytes of pixels by its header, found a file of"),
        ("native", {"NumberOfFrames": 10**9}, LIMIT),
        ("native", {"NumberOfFrames": 500}, "expected 384000 bytes of pixels by its header"),
        ("native", {"BitsAllocated": 7}, "cannot be read as a DICOM image"),
        ("rle", {"NumberOfFrames": 10**6}, LIMIT),
        ("rle", {"Rows": 3000, "Columns": 3000}, "cannot be read as a DICOM image"),
        ("deflated", {"NumberOfFrames": 10**6}, LIMIT),
    ):
        path = write_dicom(tmp_path / f"{name}.dcm", small[name], syntax=syntaxes.get(name))
        changed = dcmread(path)
        for keyword, value in changes.items():
            setattr(changed, keyword, value)
        dcmwrite(path, changed)
        assert_refused(path, reason)
    for syntax, content in (
        (uid.JPEGBaseline8Bit, saved(Image.new("L", (4000, 4000)), "JPEG")),
        (uid.JPEG2000Lossless, saved(Image.new("L", (4000, 4000)), "JPEG2000", no_jp2=True)),
        (uid.JPEGBaseline8Bit, many_scans()),
    ):
        path = write_dicom(tmp_path / "frame.dcm", GREY, syntax=syntax, streams=[content])
        assert_refused(path, r"frames of \(32, 24\) by its header, found one of")
    bomb = write_dicom(tmp_path / "bomb.dcm", GREY, syntax=uid.DeflatedExplicitVRLittleEndian).read_bytes()
    start = 132 + 12 + int.from_bytes(bomb[140:144], "little")
    inflated = (
        zlib.decompress(bomb[start:], -zlib.MAX_WBITS) + b"\x09\0\x10\0OB\0\0" + (200 * 2**20).to_bytes(4, "little")
    )
    (tmp_path / "bomb.dcm").write_bytes(bomb[:start] + packed(inflated, 200, -zlib.MAX_WBITS))
    assert_refused(tmp_path / "bomb.dcm", "inflates to more than")


def assert_refused(path, reason):
    with pytest.raises(DataError, match=reason):
        list(open_image_file(path).frames())
    outcome = fuzz(lambda path: list(open_image_file(path).frames()), lambda generator: path, 1, (DataError,))
    assert outcome.refused == 1 and not outcome.faults, reason


@pytest.mark.fault(25)
def test_the_limit_is_in_the_environment_and_holds_what_scanners_make(tmp_path, monkeypatch):
    path = tmp_path / "screen.png"
    Image.new("L", (3840, 2160)).save(path)
    assert read_grey(path).shape == (2160, 3840)
    monkeypatch.setenv(VARIABLE, str(3840 * 2160 - 1))
    with pytest.raises(DataError, match=rf"screen\.png: 3840 x 2160 is 8294400 pixels, .* set {VARIABLE}=8294400 in"):
        read_grey(path)
    monkeypatch.setenv(VARIABLE, str(3840 * 2160))
    assert read_grey(path).shape == (2160, 3840)
    for wrong in ("many", "-1", "0", "1e6"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(DataError, match=rf"{VARIABLE}='{wrong}': expected a whole number of pixels above 0"):
            read_grey(path)


@pytest.mark.fault(25)
def test_the_largest_picture_that_is_read_costs_no_more_than_a_damaged_one_may(tmp_path):
    """Every kind at the limit, as `predict` reads it: within 512 MiB."""
    side = 4096
    for name, image in (
        ("grey.png", Image.new("L", (side, side))),
        ("colours.png", Image.new("RGBA", (side, side))),
        ("palette.png", Image.new("P", (side, side))),
        ("deep.tif", Image.fromarray(np.zeros((side, side), np.uint16))),
    ):
        path = tmp_path / name
        image.save(path)
        for read in (lambda path: list(open_image_file(path).frames()), read_mask):
            outcome = fuzz(read, lambda generator, path=path: path, 1, (DataError,))
            print(f"{name}: {outcome}")
            assert outcome.worst_mib < MIB  # its time is printed: it depends on the machine


@pytest.mark.fault(24)
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.dcm", "a.tif"])
def test_what_is_no_regular_file_is_told_and_not_waited_for(make, name, tmp_path):
    path = tmp_path / name
    make(path)
    readers = [open_image_file, *((read_grey, read_mask) if name[-3:] in ("png", "tif") else ())]
    for read in readers:
        with pytest.raises(DataError, match=r"no (regular|such) file|no image in this folder"):
            read(path)
