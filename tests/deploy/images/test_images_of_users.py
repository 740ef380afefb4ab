"""Which files are meant, and what grey values they hold."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.images.find import find_files, is_dicom, open_image_file, stem
from ultrarefiner_monai.deploy.images.nifti import NiftiFile
from ultrarefiner_monai.errors import DataError

GREY = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4


@pytest.fixture
def tree(tmp_path):
    """Pictures in folders, and files that are none."""
    for name in (
        "in/a.png",
        "in/sub/b.JPG",
        "in/sub/c.nii.gz",
        "in/.hidden.png",
        "in/.git/d.png",
        "in/out/masks/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "notes.csv").touch()
    (tmp_path / "in" / "1.2.3").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "in" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    return tmp_path / "in"


def names(listing):
    return [file.name for file in listing[0]]


def test_a_folder_means_its_pictures_by_their_path_below_it(tree):
    found, masks = find_files([tree], tree / "out")
    assert names((found, masks)) == ["1.2.3", "a", "sub/b", "sub/c"]
    assert found[2].path == tree / "sub" / "b.JPG" and not masks


def test_results_in_another_place_are_pictures_like_others(tree):
    assert "out/masks/a" in names(find_files([tree], tree.parent / "elsewhere"))
    assert names(find_files([tree / "out"], tree / "out")) == ["masks/a"]  # the whole folder was asked for


def test_patterns_files_and_folders_together_and_each_file_once(tree):
    found = find_files([str(tree / "**" / "*.*"), tree / "sub", tree / "notes.csv"], tree / "out")
    assert sorted(names(found)) == ["1.2.3", "a", "notes.csv", "sub/b", "sub/c"]
    assert names(find_files([str(tree / "s*")], tree / "out")) == ["sub/b", "sub/c"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tree):
    (tree / "x[1].png").touch()
    assert names(find_files([str(tree / "x[1].png")], tree / "out")) == ["x[1]"]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("no.png", "no such file"), ("no*.png", "no such file"), ("empty", r"no image in this folder; expected \.png")],
)
def test_a_place_without_pictures_is_listed_and_told(missing, reason, tree):
    (tree / "empty").mkdir()
    (file,), _ = find_files([tree / missing], tree / "out")
    with pytest.raises(DataError, match=reason):
        open_image_file(file.path)


def test_only_the_suffixes_of_pictures_are_taken_off():
    assert list(map(stem, ("a.b.PNG", "a.nii.gz", "1.2.840", "a.nii", "x.tar.gz"))) == [
        *("a.b", "a", "1.2.840", "a", "x.tar.gz")
    ]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_pictures_are_read_as_in_training(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.stack([GREY, GREY[::-1], GREY], axis=-1)).save(path)
    source = open_image_file(path)
    (grey,) = source.frames()
    np.testing.assert_array_equal(grey, read_grey(path))
    assert grey.shape == (6, 9) and source.spacing is None


def test_pages_of_a_tiff_are_frames(tmp_path):
    pages = [Image.fromarray(GREY // n) for n in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    source = open_image_file(tmp_path / "a.tiff")
    assert source.count == 3
    for n, grey in enumerate(source.frames(), 1):
        np.testing.assert_allclose(grey, (GREY // n) / 255, atol=1e-7)


def nifti(path, values, units="unknown", zooms=(1, 1), **header):
    image = nibabel.Nifti1Image(values, np.diag([-zooms[0], zooms[1], 1, 1]))
    image.header.set_xyzt_units(units)
    if header:
        image.header.set_slope_inter(**header)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    "values",
    [
        GREY,
        GREY.astype(np.int16),
        GREY * np.float32(1),
        GREY * np.uint16(257),
        np.float32(GREY / 255),
        (GREY / 255)[..., None],
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_is_taken_as_stored_x_before_y(values, suffix, tmp_path):
    stored = values.T if values.ndim == 2 else values.transpose(1, 0, 2)
    source = open_image_file(nifti(tmp_path / f"a{suffix}", stored))
    (grey,) = source.frames()
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, GREY / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("units", "zooms", "expected"),
    [("mm", (0.1, 0.2), (0.2, 0.1)), ("micron", (100, 200), (0.2, 0.1)), ("unknown", (0.1, 0.2), None)],
)
def test_size_of_a_pixel_where_a_nifti_states_its_unit(units, zooms, expected, tmp_path):
    spacing = NiftiFile(nifti(tmp_path / "a.nii", GREY.T, units, zooms)).spacing
    assert spacing == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((4, 5, 3, 2), np.uint8), r"expected a volume \(x, y, z\) .*, found \(4, 5, 3, 2\)"),
        (np.zeros((4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "expected a grey plane"),
        (
            np.full((4, 5), -3, np.int16),
            r"a\.nii: expected values in 0\.\.65535, found int16 from -3 to -3; save it with",
        ),
        (np.full((4, 5), 70000, np.int32), "found int32 from 70000 to 70000"),
        (np.full((4, 5), np.nan, np.float32), "found float32 from nan to nan"),
    ],
)
def test_niftis_without_defined_grey_values_are_refused(values, reason, tmp_path):
    with pytest.raises(DataError, match=reason):
        list(open_image_file(nifti(tmp_path / "a.nii", values)).frames())


def test_damaged_niftis_are_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    whole = nifti(tmp_path / "a.nii.gz", noise).read_bytes()
    plain = gzip.decompress(whole)
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]  # in gzip's checksum
    for name, content in {"b.nii.gz": whole[:300], "c.nii": plain[:500], "d.nii": b"text", "e.nii.gz": flipped}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: cannot be read as NIfTI \(.*\); copy it again from its source$"):
            list(open_image_file(Path(tmp_path / name)).frames())


def test_only_one_kind_of_error_comes_from_damaged_files(tmp_path):
    """Pillow raises errors of many classes: for such TIFFs a TypeError when their pages are counted."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(rng.integers(0, 255, (12, 16), dtype=np.uint8))
    picture.save(tmp_path / "a.png", exif=exif)
    picture.save(tmp_path / "b.jpg", exif=exif)
    picture.save(tmp_path / "c.tif", tiffinfo=exif, save_all=True, append_images=[picture])
    refused = 0
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                list(open_image_file(path).frames())
            except DataError as error:
                refused += 1
                assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused > 50


def test_a_file_that_may_not_be_opened_is_no_dicom(tmp_path, monkeypatch):
    (tmp_path / "IM1").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert not is_dicom(tmp_path / "IM1")
    with pytest.raises(DataError, match=r"IM1: cannot be read as an image \(.*Permission denied.*\)"):
        list(open_image_file(tmp_path / "IM1").frames())
