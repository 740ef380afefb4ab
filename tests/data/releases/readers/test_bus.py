"""BUS (two datasets of one name) and BUS-UC, on files made in their layouts: no sample of them was at hand."""

from pathlib import Path

import pytest
from made_releases import make_one, mask, picture, touch

from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.readers import find_root, info, reader
from ultrarefiner_monai.data.releases.release import read_release


@pytest.mark.parametrize("count", [163, 562])
def test_whatever_the_folder_holds(count: int, tmp_path: Path) -> None:
    for folder in ("original", "GT"):
        touch(tmp_path, *(f"{folder}/{number:06}.png" for number in range(1, count + 1)))
    sources = reader("BUS").scan(tmp_path)
    assert len(sources) == count
    assert all(source.masks == (f"GT/{source.id}.png",) for source in sources)
    assert {source.label for source in sources} == {"unknown"}
    assert f"{count}: " in info("BUS").description


def test_the_manifest_tells_how_many(bus_release: Path) -> None:
    document = build_document(read_release("BUS", bus_release), Options(2, 0, 0.25))
    assert (document["numTraining"], document["numTest"]) == (9, 3)


def test_bus_and_udiat_share_a_layout(bus_release: Path) -> None:
    assert find_root("BUS", bus_release.parent) == find_root("UDIAT", bus_release) == bus_release
    assert reader("BUS").scan(bus_release) == reader("UDIAT").scan(bus_release)
    assert build_document(read_release("UDIAT", bus_release), Options(2, 0, 0.25))["name"] == "UDIAT"


def test_bus_uc_sorted_by_class(tmp_path: Path) -> None:
    for folder in ("Benign", "Malignant", "All"):
        touch(tmp_path, f"{folder}/images/001.png", f"{folder}/masks/001.png")
    sources = reader("BUS_UC").scan(find_root("BUS_UC", tmp_path))
    assert [(source.id, source.label) for source in sources] == [
        ("benign 001", "benign"),
        ("malignant 001", "malignant"),
    ]
    assert sources[1].masks == ("Malignant/masks/001.png",)


def test_bus_uc_unsorted(tmp_path: Path) -> None:
    touch(tmp_path / "BUS_UC", "All/images/001.png", "All/masks/001.png", "All/images/002.png")
    sources = reader("BUS_UC").scan(find_root("BUS_UC", tmp_path))
    assert [(s.id, s.label, len(s.masks)) for s in sources] == [("001", "unknown", 1), ("002", "unknown", 0)]


def test_bus_uc_of_one_class_is_no_release(tmp_path: Path) -> None:
    root = make_one("BUS_UC", tmp_path)
    (root / "Malignant/masks").rmdir()
    with pytest.raises(ValueError, match=r"looked for Benign/images .* found Benign, Malignant"):
        find_root("BUS_UC", root)


def test_a_mask_one_pixel_off_is_excluded(tmp_path: Path) -> None:
    """A copy of BUS-UC that is going round holds one such pair."""
    root = make_one("BUS_UC", tmp_path)
    picture().save(root / "Malignant/images/001.png")
    mask().crop((0, 0, 29, 20)).save(root / "Malignant/masks/001.png")
    release = read_release("BUS_UC", root)
    assert [record.source.id for record in release.records] == ["benign 001"]
    assert release.excluded == {"malignant 001": "image is 30x20, mask is 29x20"}
