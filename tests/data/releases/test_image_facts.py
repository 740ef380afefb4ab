"""Measured facts of real and planted files, read once and then known by their content."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data import images
from ultrarefiner_monai.data.images import open_image
from ultrarefiner_monai.data.releases import image_facts
from ultrarefiner_monai.data.releases.fact_cache import FactCache
from ultrarefiner_monai.data.releases.image_facts import measure, phash16
from ultrarefiner_monai.data.releases.readers import reader
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.files import file_sha256


def test_facts_of_one_image(bus_release: Path) -> None:
    source = Source("000003", "original/000003.png", ("GT/000003.png",), "unknown")
    ((record,), _) = measure([source], bus_release)
    assert record.source is source
    assert (record.size, record.mask_sizes) == ((80, 60), ((80, 60),))
    assert record.lesion_pixels == 8 * 8  # rows 10..17, columns 20..27
    assert record.sha256 == hashlib.sha256((bus_release / source.image).read_bytes()).hexdigest()
    assert record.mask_sha256 == (file_sha256(bus_release / source.masks[0]),)
    assert len(record.phash16) == 64


def test_records_keep_the_order_of_the_sources(bus_release: Path) -> None:
    sources = reader("BUS").scan(bus_release)[::-1]
    for workers in (1, 2):
        records, bad = measure(sources, bus_release, workers=workers)
        assert [record.source for record in records] == sources
        assert bad == {}


def test_pixels_of_overlapping_masks_count_once(bus_release: Path) -> None:
    masks = ("GT/000001.png", "GT/000003.png")  # squares of side 6 and 8 with a common corner
    ((record,), _) = measure([Source("a", "original/000001.png", masks, "unknown")], bus_release)
    assert record.lesion_pixels == 64


def test_masks_of_different_sizes_are_recorded_not_joined(bus_release: Path) -> None:
    Image.new("L", (5, 4), 255).save(bus_release / "GT/odd.png")
    masks = ("GT/000001.png", "GT/odd.png")
    ((record,), _) = measure([Source("a", "original/000001.png", masks, "unknown")], bus_release)
    assert record.mask_sizes == ((80, 60), (5, 4))
    assert record.lesion_pixels == 0


def test_all_faulty_files_are_in_one_error(bus_release: Path, tmp_path: Path) -> None:
    (bus_release / "original/000002.png").write_bytes(b"")
    (bus_release / "GT/000005.png").unlink()
    (tmp_path / "outside.png").write_bytes((bus_release / "original/000007.png").read_bytes())
    (bus_release / "original/000007.png").unlink()
    (bus_release / "original/000007.png").symlink_to(tmp_path / "outside.png")
    sources = [
        Source(name, f"original/{name}.png", (f"GT/{name}.png",), "unknown")
        for name in ("000001", "000002", "000005", "000007")
    ]
    records, bad = measure(sources, bus_release)
    assert [record.source.id for record in records] == ["000001"]
    assert sorted(bad) == ["000002", "000005", "000007"]
    assert "cannot be read as an image" in bad["000002"]
    assert "No such file" in bad["000005"]
    assert "a link leads out" in bad["000007"]


def test_a_second_reading_opens_only_what_changed(bus_release: Path, tmp_path: Path, monkeypatch) -> None:
    sources, cache = reader("BUS").scan(bus_release), FactCache(tmp_path / "cache")
    first, _ = measure(sources, bus_release, cache)
    Image.new("L", (80, 60), 255).save(bus_release / "GT/000002.png")
    opened: list[Path] = []
    for module in (images, image_facts):
        monkeypatch.setattr(module, "open_image", lambda path: opened.append(path) or open_image(path))
    second, _ = measure(sources, bus_release, cache)
    assert [path.relative_to(bus_release).as_posix() for path in opened] == ["original/000002.png", "GT/000002.png"]
    assert second[1].lesion_pixels == 80 * 60
    assert [second[0], *second[2:]] == [first[0], *first[2:]]


def test_a_picture_moved_in_the_release_is_known_by_its_content(bus_release: Path, tmp_path: Path, monkeypatch) -> None:
    cache = FactCache(tmp_path / "cache")
    first, _ = measure(reader("BUS").scan(bus_release), bus_release, cache)
    moved = bus_release.rename(tmp_path / "elsewhere")
    for module in (images, image_facts):
        monkeypatch.setattr(module, "open_image", lambda path: pytest.fail(f"{path} was opened"))
    assert measure(reader("BUS").scan(moved), moved, cache)[0] == first


def test_a_thumbnail_holds_the_means_of_a_grid() -> None:
    picture = np.kron(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251, np.ones((3, 2))).astype(np.uint8)
    thumbnail = np.frombuffer(image_facts.thumbnail(Image.fromarray(picture)), np.uint8).reshape(64, 64)
    np.testing.assert_array_equal(thumbnail, picture[::3, ::2])


def test_sixteen_bit_pictures_hash_like_eight_bit_ones() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert phash16(Image.fromarray(grey.astype(np.uint16) * 257)) == phash16(Image.fromarray(grey))


def test_measured_hashes_equal_the_inventory(shared_data: Path) -> None:
    root = shared_data / "BUSI/Dataset_BUSI_with_GT"
    with (shared_data / "inventory/BUSI.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    sources = [source for source in reader("BUSI").scan(root) if len(source.masks) > 1]
    records, _ = measure(sources, root)
    assert len(records) == 17
    for record in records:
        row = rows[record.source.image]
        assert record.phash16 == row["phash16"]
        assert ";".join(record.mask_sha256) == row["mask_sha256"]
        assert record.lesion_pixels == int(row["lesion_pixels"])
