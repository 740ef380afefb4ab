"""Each release layout, from real samples where they are at hand and from small planted files elsewhere."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.manifest import DATASETS
from ultrarefiner_monai.data.readers import READERS, find_root, info, reader


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_every_dataset_has_a_reader() -> None:
    assert set(READERS) == set(DATASETS)
    for name in DATASETS:
        assert info(name).reference
        assert callable(reader(name).scan)


def test_an_unknown_name_says_which_was_meant() -> None:
    with pytest.raises(DataError, match="unknown dataset 'bus-uclm': did you mean BUS_UCLM"):
        reader("bus-uclm")


RELEASES = {"BUSI": "BUSI/Dataset_BUSI_with_GT", "BUSBRA": "BUS-BRA/BUSBRA", "BUS_UCLM": "BUS-UCLM/BUS-UCLM"}


@pytest.mark.parametrize("name", RELEASES)
def test_the_release_folder_or_its_parent_is_accepted(name: str, shared_data: Path) -> None:
    release = shared_data / RELEASES[name]
    assert find_root(name, release) == release
    assert find_root(name, release.parent) == release


def test_another_folder_is_refused_with_what_was_found(tmp_path: Path) -> None:
    _touch(tmp_path, "pictures/a.png", "notes.txt")
    with pytest.raises(DataError, match=r"BUS: looked for original \+ GT in .* found notes\.txt, pictures"):
        find_root("BUS", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        find_root("BUS", tmp_path / "nowhere")


def test_two_releases_side_by_side_are_ambiguous(tmp_path: Path) -> None:
    _touch(tmp_path, "one/original/1.png", "one/GT/1.png", "two/original/1.png", "two/GT/1.png")
    with pytest.raises(DataError, match=r"several folders .* \(one, two\)"):
        find_root("BUS", tmp_path)


def test_busi_classes_and_masks_in_order(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"benign/benign (4){end}.png" for end in ("", "_mask", "_mask_10", "_mask_2")))
    _touch(tmp_path, "malignant/malignant (1).png", "normal/normal (2).png", "normal/normal (2)_mask.png")
    _touch(tmp_path, "benign/._benign (4).png", "benign/Thumbs.db")
    sources = {source.id: source for source in reader("BUSI").scan(tmp_path)}
    assert sorted(sources) == ["benign (4)", "malignant (1)", "normal (2)"]
    assert sources["benign (4)"].image == "benign/benign (4).png"
    assert sources["benign (4)"].masks == tuple(f"benign/benign (4)_mask{end}.png" for end in ("", "_2", "_10"))
    assert sources["malignant (1)"].masks == ()
    assert sources["normal (2)"].label == "normal"


def test_busi_sample(shared_data: Path) -> None:
    sources = reader("BUSI").scan(shared_data / RELEASES["BUSI"])
    assert Counter(source.label for source in sources) == {"benign": 73, "malignant": 48, "normal": 24}
    assert sum(len(source.masks) for source in sources) == 163


def test_busbra_sample(shared_data: Path) -> None:
    sources = {source.id: source for source in reader("BUSBRA").scan(shared_data / RELEASES["BUSBRA"])}
    assert len(sources) == 752
    assert len({source.patient for source in sources.values()}) == 429
    first = sources["bus_0001-l"]
    assert (first.masks, first.label, first.patient) == (("Masks/mask_0001-l.png",), "malignant", "1")
    assert first.official == "3"  # kFold of 5-fold-cv.csv


def test_busbra_without_a_row_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "Images/bus_0001-l.png", "Images/bus_0002-l.png", "Masks/mask_0001-l.png")
    (tmp_path / "bus_data.csv").write_text("ID,Case,Pathology\nbus_0001-l,1,Benign\n")
    with pytest.raises(DataError, match=r"bus_data\.csv: no row for bus_0002-l"):
        reader("BUSBRA").scan(tmp_path)
    (tmp_path / "bus_data.csv").write_text("name,Case\nbus_0001-l,1\n")
    with pytest.raises(DataError, match="expected columns Case, ID, Pathology, found name, Case"):
        reader("BUSBRA").scan(tmp_path)


def test_bus_uclm_sample(shared_data: Path) -> None:
    sources = {source.id: source for source in reader("BUS_UCLM").scan(shared_data / RELEASES["BUS_UCLM"])}
    assert len(sources) == 91
    assert sources["COPE_014"].patient == "COPE"
    assert sources["COPE_014"].masks == ("masks/COPE_014.png",)
    assert {source.label for source in sources.values()} == {"benign", "malignant", "normal"}
    published = (shared_data / "splits/bus_uclm_official_test_patients.txt").read_text().split()
    assert info("BUS_UCLM").official_test == set(published)


def test_bus_and_udiat_share_a_layout(bus_release: Path) -> None:
    assert find_root("BUS", bus_release.parent) == find_root("UDIAT", bus_release) == bus_release
    sources = reader("BUS").scan(bus_release)
    assert sources == reader("UDIAT").scan(bus_release)
    assert len(sources) == 12
    assert (sources[0].id, sources[0].masks, sources[0].label) == ("000001", ("GT/000001.png",), "unknown")


def test_bus_uc_sorted_by_class(tmp_path: Path) -> None:
    for folder in ("Benign", "Malignant", "All"):
        _touch(tmp_path, f"{folder}/images/001.png", f"{folder}/masks/001.png")
    sources = reader("BUS_UC").scan(find_root("BUS_UC", tmp_path))
    assert [(source.id, source.label) for source in sources] == [
        ("benign 001", "benign"),
        ("malignant 001", "malignant"),
    ]
    assert sources[1].masks == ("Malignant/masks/001.png",)


def test_bus_uc_unsorted(tmp_path: Path) -> None:
    _touch(tmp_path / "BUS_UC", "All/images/001.png", "All/masks/001.png", "All/images/002.png")
    sources = reader("BUS_UC").scan(find_root("BUS_UC", tmp_path))
    assert [(s.id, s.label, len(s.masks)) for s in sources] == [("001", "unknown", 1), ("002", "unknown", 0)]


def test_masks_may_have_another_suffix(tmp_path: Path, bus_release: Path) -> None:
    shutil.move(bus_release / "GT/000001.png", bus_release / "GT/000001.bmp")
    assert reader("BUS").scan(bus_release)[0].masks == ("GT/000001.bmp",)
