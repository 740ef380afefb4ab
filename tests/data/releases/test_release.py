"""The same release gives the same bytes, however it is unpacked, listed and read."""

import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.manifests.build import build_document, encode
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.inventory import COLUMNS
from ultrarefiner_monai.data.releases.release import incomplete, read_release
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def busi_release(tmp_path: Path) -> Path:
    """Release in the layout of BUSI: 12 pictures, some with two masks, two normals, one doubled across classes."""
    root = tmp_path / "Dataset_BUSI_with_GT"
    for number in range(12):
        label = ("benign", "malignant", "normal")[min(number // 5, 2)]
        _draw(root / label, f"{label} ({number % 5 + 1})", number, lesions=0 if label == "normal" else 1 + number % 2)
    shutil.copy(root / "benign/benign (2).png", root / "malignant/malignant (4).png")
    return root


def _draw(folder: Path, stem: str, seed: int, lesions: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16), dtype=np.uint8)
    Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{stem}.png")
    for lesion in range(max(lesions, 1)):
        mask = np.zeros((60, 80), np.uint8)
        mask[10 : 20 + seed, 30 * lesion + 5 : 30 * lesion + 25] = 255 * bool(lesions)
        Image.fromarray(mask).save(folder / f"{stem}_mask{f'_{lesion}' if lesion else ''}.png")


def _bytes(root: Path, **options) -> bytes:
    return encode(build_document(read_release("BUSI", root, **options), Options(folds=2, test_fraction=0.2)))


@pytest.fixture
def expected(busi_release: Path) -> bytes:
    return _bytes(busi_release)


def test_any_number_of_workers(busi_release: Path, expected: bytes) -> None:
    assert {_bytes(busi_release, workers=workers) for workers in (1, 2, 5)} == {expected}


def test_a_cache_changes_nothing(busi_release: Path, expected: bytes, tmp_path: Path) -> None:
    assert {_bytes(busi_release, cache=tmp_path / "cache") for _ in range(2)} == {expected}


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_the_folders(seed: int, busi_release: Path, expected: bytes, monkeypatch) -> None:
    listed: Callable[[Path], Iterator[Path]] = Path.iterdir

    def shuffled(folder: Path) -> Iterator[Path]:
        entries = sorted(listed(folder))
        return iter(random.Random(seed).sample(entries, len(entries)))

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert _bytes(busi_release) == expected


def test_as_windows_and_macos_unpack_it(busi_release: Path, expected: bytes, tmp_path: Path) -> None:
    unpacked = tmp_path / "downloads/Dataset_BUSI_with_GT/Dataset_BUSI_with_GT"
    unpacked.parent.mkdir(parents=True)
    busi_release.rename(unpacked)
    (tmp_path / "downloads/__MACOSX/Dataset_BUSI_with_GT/benign").mkdir(parents=True)
    (tmp_path / "downloads/__MACOSX/Dataset_BUSI_with_GT/malignant").mkdir(parents=True)
    for extra in ("Thumbs.db", "desktop.ini", "._benign (1).png", ".DS_Store"):
        (unpacked / "benign" / extra).write_bytes(b"\0")
    assert _bytes(tmp_path / "downloads") == _bytes(unpacked) == expected


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_from_an_archive(separator: str, busi_release: Path, expected: bytes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "BUSI.zip", "w") as archive:
        for path in sorted(busi_release.rglob("*.png")):
            entry = zipfile.ZipInfo("x")
            entry.filename = path.relative_to(tmp_path).as_posix().replace("/", separator)
            archive.writestr(entry, path.read_bytes())
    shutil.rmtree(busi_release)
    assert _bytes(tmp_path / "BUSI.zip") == expected


def test_from_a_table_of_the_same_facts(busi_release: Path, expected: bytes, tmp_path: Path) -> None:
    lines = [",".join(COLUMNS)]
    for record in read_release("BUSI", busi_release).records:
        sizes = [f"{width}x{height}" for width, height in record.mask_sizes]
        source = record.source
        facts = (source.image, ";".join(source.masks), *record.size, ";".join(sizes), record.lesion_pixels)
        hashes = (record.sha256, ";".join(record.mask_sha256), record.phash16)
        lines.append(",".join(map(str, ("BUSI", *facts, *hashes, source.label, source.patient, source.official))))
    (tmp_path / "BUSI.csv").write_text("\n".join(lines[:1] + lines[:0:-1]) + "\n", encoding="utf-8")
    release = read_release("BUSI", inventory=tmp_path / "BUSI.csv")
    assert encode(build_document(release, Options(folds=2, test_fraction=0.2))) == expected


def test_bad_files_are_all_listed_or_left_out(busi_release: Path) -> None:
    (busi_release / "benign/benign (1).png").write_bytes(b"")
    (busi_release / "malignant/malignant (5)_mask.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as caught:
        read_release("BUSI", busi_release)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["benign (1)", "malignant (5)"]
    release = read_release("BUSI", busi_release, skip_bad=True)
    assert list(release.excluded) == ["benign (1)", "malignant (5)"]
    assert len(release.records) == 10


def test_a_release_in_part_is_noted(two_releases: Path) -> None:
    assert incomplete(read_release("BUSI+BUS", two_releases)) == [
        "note: 12 images of BUSI were found, the complete release has 780",
        "note: 12 images of BUS were found, the complete release has 163 or 562",
    ]


def test_ids_are_unique_before_anything_is_left_out(bus_release: Path) -> None:
    (bus_release / "original/000001.bmp").write_bytes(b"")
    with pytest.raises(DataError, match="id '000001' occurs 2 times"):
        read_release("BUS", bus_release, skip_bad=True)


def test_neither_files_nor_table() -> None:
    with pytest.raises(DataError, match="--root RELEASE_FOLDER or --inventory CSV"):
        read_release("BUSI")


@pytest.fixture
def two_releases(busi_release: Path, bus_release: Path) -> Path:
    """Folder that holds BUSI and BUS, one picture in both."""
    shutil.copy(busi_release / "benign/benign (3).png", bus_release / "original/000004.png")
    return busi_release.parent


def test_a_combination_groups_near_duplicates_across_data_sets(two_releases: Path) -> None:
    document = build_document(read_release("BUSI+BUS", two_releases), Options(folds=2))
    items = {item["id"]: item for key in ("training", "testing", "normal") for item in document[key]}
    assert len(items) == 24
    assert document["name"] == "BUSI+BUS"
    twin = items["BUS/000004"]
    assert twin["group"] == items["BUSI/benign (3)"]["group"] == "BUS/000004"
    assert twin.get("fold") == items["BUSI/benign (3)"].get("fold")
    assert (twin["image"], twin["label"], twin["dataset"]) == ("BUS/original/000004.png", "BUS/GT/000004.png", "BUS")
    assert items["BUSI/benign (2)"]["label"] == [
        "BUSI/benign/benign (2)_mask.png",
        "BUSI/benign/benign (2)_mask_1.png",
    ]


def test_a_combination_of_releases_in_different_places(two_releases: Path, tmp_path: Path) -> None:
    together = read_release("BUSI+BUS", two_releases)
    (tmp_path / "far/away").mkdir(parents=True)
    (two_releases / "BUS").rename(tmp_path / "far/away/ultrasound")
    places = {"BUSI": str(tmp_path / "Dataset_BUSI_with_GT"), "BUS": str(tmp_path / "far")}
    apart = read_release("BUSI+BUS", places)
    assert (apart.records, apart.excluded) == (together.records, together.excluded)
    with pytest.raises(DataError, match="no place given for BUS, only for BUSI"):
        read_release("BUSI+BUS", {"BUSI": places["BUSI"]})


def test_one_of_each_group_of_duplicates_can_be_kept(two_releases: Path) -> None:
    document = build_document(read_release("BUSI+BUS", two_releases), Options(folds=2), exclude_duplicates=True)
    excluded = {entry["id"]: entry["reason"] for entry in document["excluded"]}
    assert {"BUSI/benign (3)"} <= excluded.keys()
    assert "BUS/000004" in excluded["BUSI/benign (3)"]
