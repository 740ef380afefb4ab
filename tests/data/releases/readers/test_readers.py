"""What holds for every reader: finding the release, pairing, odd files and odd pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_releases import ONE, make_one, mask, picture, touch
from PIL import Image

from ultrarefiner_monai.data.datasets import DATASETS
from ultrarefiner_monai.data.integrity.verification import verify
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.readers import READERS, find_root, info, reader
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError

RELEASES = {"BUSI": "BUSI/Dataset_BUSI_with_GT", "BUSBRA": "BUS-BRA/BUSBRA", "BUS_UCLM": "BUS-UCLM/BUS-UCLM"}
JUNK = ("Thumbs.db", "desktop.ini", ".DS_Store", "._000001.png", "._bus_0001-l.png", ".000002.png")


def test_every_dataset_has_a_reader() -> None:
    assert set(READERS) == set(DATASETS)
    for name in DATASETS:
        assert info(name).reference
        assert info(name).licence
        assert callable(reader(name).scan)


def test_an_unknown_name_says_which_was_meant() -> None:
    with pytest.raises(DataError, match="unknown dataset 'bus-uclm': did you mean 'BUS_UCLM'"):
        reader("bus-uclm")


@pytest.mark.parametrize("name", RELEASES)
def test_the_release_folder_or_its_parent_is_accepted(name: str, shared_data: Path) -> None:
    release = shared_data / RELEASES[name]
    assert find_root(name, release) == release
    assert find_root(name, release.parent) == release


@pytest.mark.parametrize("name", ONE)
def test_made_releases_are_found_too(name: str, tmp_path: Path) -> None:
    release = make_one(name, tmp_path / "download/release")
    for place in (release, release.parent, tmp_path):
        assert find_root(name, place) == release


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("BUSI", r"benign \+ malignant"),
        ("BUSBRA", r"Images \+ Masks \+ bus_data\.csv"),
        ("BUS", r"original \+ GT"),
        ("UDIAT", r"original \+ GT"),
        ("BUS_UC", r"Benign/images \+ Benign/masks \+ .* or All/images \+ All/masks"),
        ("BUS_UCLM", r"images \+ masks \+ INFO\.csv"),
        ("PHANTOM", r"images \+ masks \+ cases\.csv"),
    ],
)
def test_another_folder_is_refused_with_what_was_found(name: str, wanted: str, tmp_path: Path) -> None:
    touch(tmp_path, "pictures/a.png", "notes.txt")
    with pytest.raises(DataError, match=rf"{name}: looked for {wanted} in .* found notes\.txt, pictures"):
        find_root(name, tmp_path)
    with pytest.raises(DataError, match="is neither a folder nor an archive"):
        find_root(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["BUSBRA", "BUS_UCLM"])
def test_a_release_without_its_table_is_no_release(name: str, tmp_path: Path) -> None:
    root = make_one(name, tmp_path / "release")
    (table,) = root.glob("*.csv")
    table.unlink()
    with pytest.raises(DataError, match=rf"looked for .*{table.name} in .* found "):
        find_root(name, root)


def test_two_releases_side_by_side_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "one/original/1.png", "one/GT/1.png", "two/original/1.png", "two/GT/1.png")
    with pytest.raises(DataError, match=r"several folders .* \(one, two\)"):
        find_root("BUS", tmp_path)


@pytest.mark.parametrize("suffix", [".PNG", ".bmp", ".BMP", ".jpg", ".JPEG", ".tif"])
@pytest.mark.parametrize("name", ONE)
def test_other_suffixes(name: str, suffix: str, tmp_path: Path) -> None:
    image, label, _, id = ONE[name]
    (source,) = reader(name).scan(make_one(name, tmp_path, suffix=suffix))
    assert (source.id, source.image, source.masks) == (id, image + suffix, (label + suffix,))
    (record,), bad = measure([source], tmp_path)
    assert not bad
    assert (record.size, record.lesion_pixels) == ((30, 20), 24)


def test_a_mask_may_have_another_suffix_than_its_image(bus_release: Path) -> None:
    (bus_release / "GT/000001.png").rename(bus_release / "GT/000001.bmp")
    assert reader("BUS").scan(bus_release)[0].masks == ("GT/000001.bmp",)


@pytest.mark.parametrize("name", ONE)
def test_what_file_managers_leave_behind_is_no_image(name: str, tmp_path: Path) -> None:
    root = make_one(name, tmp_path)
    expected = reader(name).scan(root)
    for path in (image := Path(ONE[name][0]).parent, Path(ONE[name][1]).parent, image.parent):
        touch(root, *(f"{path.as_posix()}/{junk}" for junk in JUNK))
    assert reader(name).scan(root) == expected


PIXELS = {
    "RGB": lambda grey: grey.convert("RGB"),
    "RGBA": lambda grey: Image.merge("RGBA", [*[grey] * 3, Image.new("L", grey.size, 255)]),
    "transparent": lambda grey: Image.merge("RGBA", [*[grey] * 3, Image.new("L", grey.size, 0)]),
    "grey-alpha": lambda grey: Image.merge("LA", [grey, Image.new("L", grey.size, 9)]),
    "palette": lambda grey: _palette(grey),
    "16-bit": lambda grey: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
}


def _palette(grey: Image.Image) -> Image.Image:
    """Grey values by a palette in reverse order, so that the indices are the negative."""
    indices = Image.fromarray(255 - np.asarray(grey)).convert("P")
    indices.putpalette([255 - index // 3 for index in range(768)])
    return indices


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("name", ONE)
def test_odd_pixels_are_the_same_record(name: str, pixels: str, tmp_path: Path) -> None:
    roots = (
        make_one(name, tmp_path / "grey"),
        make_one(name, tmp_path / "odd", PIXELS[pixels](picture()), PIXELS[pixels](mask())),
    )
    plain, odd = (measure(reader(name).scan(root), root)[0][0] for root in roots)
    assert odd.sha256 != plain.sha256
    facts = ("size", "mask_sizes", "lesion_pixels", "phash16", "thumbnail")
    assert [getattr(odd, fact) for fact in facts] == [getattr(plain, fact) for fact in facts]
    assert odd.lesion_pixels == 24


@pytest.mark.parametrize("name", ONE)
def test_a_one_bit_mask_keeps_its_lesion(name: str, tmp_path: Path) -> None:
    root = make_one(name, tmp_path, label=mask().convert("1"))
    assert measure(reader(name).scan(root), root)[0][0].lesion_pixels == 24


@pytest.mark.parametrize("name", ONE)
def test_an_image_without_a_mask_is_excluded_with_its_reason(name: str, tmp_path: Path) -> None:
    root = make_one(name, tmp_path)
    (root / f"{ONE[name][1]}.png").unlink()
    release = read_release(name, root)
    assert release.records == ()
    assert release.excluded == {ONE[name][3]: "no mask file"}


def test_a_mask_without_an_image_is_told_by_verify(bus_release: Path, tmp_path: Path) -> None:
    (bus_release / "original/000003.png").unlink()
    (bus_release / "GT/000005.png").unlink()
    manifest = tmp_path / "BUS.json"
    write_manifest(build_document(read_release("BUS", bus_release), Options(2, 0, 0.2)), manifest)
    assert json.loads(manifest.read_text())["excluded"] == [{"id": "000005", "reason": "no mask file"}]
    report = verify(manifest, bus_release)
    assert [(fault.kind, fault.file) for fault in report.faults] == [("extra", "GT/000003.png")]


def test_one_id_twice_is_refused(bus_release: Path) -> None:
    Image.open(bus_release / "original/000001.png").save(bus_release / "original/000001.BMP")
    with pytest.raises(DataError, match="id '000001' occurs 2 times"):
        build_document(read_release("BUS", bus_release), Options(2, 0, 0.2))


@pytest.mark.parametrize("table", ["image,mask,patient,class\n../a.png,masks/a.png,p,benign\n", "image,mask\na,b\n"])
def test_a_phantom_table_that_was_tampered_with(table: str, tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "cases.csv").write_text(table)
    with pytest.raises(DataError, match=r"leaves the dataset root|expected columns image, mask, patient, class"):
        read_release("PHANTOM", tmp_path)
