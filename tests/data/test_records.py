"""Measured facts of real and planted files."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.readers import reader
from ultrarefiner_monai.data.records import Source, file_sha256, in_parallel, measure, phash16


def test_facts_of_one_image(bus_release: Path) -> None:
    source = Source("000003", "original/000003.png", ("GT/000003.png",), "unknown")
    (record,) = measure([source], bus_release)
    assert record.source is source
    assert (record.size, record.mask_sizes) == ((80, 60), ((80, 60),))
    assert record.lesion_pixels == 8 * 8  # rows 10..17, columns 20..27
    assert record.sha256 == hashlib.sha256((bus_release / source.image).read_bytes()).hexdigest()
    assert record.mask_sha256 == (file_sha256(bus_release / source.masks[0]),)
    assert len(record.phash16) == 64


def test_records_keep_the_order_of_the_sources(bus_release: Path) -> None:
    sources = reader("BUS").scan(bus_release)[::-1]
    assert [record.source for record in measure(sources, bus_release)] == sources
    assert in_parallel(lambda value: value * 2, range(100)) == [value * 2 for value in range(100)]


def test_pixels_of_overlapping_masks_count_once(bus_release: Path) -> None:
    masks = ("GT/000001.png", "GT/000003.png")  # squares of side 6 and 8 with a common corner
    (record,) = measure([Source("a", "original/000001.png", masks, "unknown")], bus_release)
    assert record.lesion_pixels == 64


def test_masks_of_different_sizes_are_recorded_not_joined(bus_release: Path) -> None:
    Image.new("L", (5, 4), 255).save(bus_release / "GT/odd.png")
    masks = ("GT/000001.png", "GT/odd.png")
    (record,) = measure([Source("a", "original/000001.png", masks, "unknown")], bus_release)
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
    with pytest.raises(DataError) as caught:
        measure(sources, bus_release)
    assert [problem[:6] for problem in caught.value.problems] == ["000002", "000005", "000007"]
    assert "cannot be read as an image" in caught.value.problems[0]
    assert "no such file" in caught.value.problems[1]
    assert "a link leads out" in caught.value.problems[2]


def test_sixteen_bit_pictures_hash_like_eight_bit_ones() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert phash16(Image.fromarray(grey.astype(np.uint16) * 257)) == phash16(Image.fromarray(grey))


def test_measured_hashes_equal_the_inventory(shared_data: Path) -> None:
    root = shared_data / "BUSI/Dataset_BUSI_with_GT"
    with (shared_data / "inventory/BUSI.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    sources = [source for source in reader("BUSI").scan(root) if len(source.masks) > 1]
    records = measure(sources, root)
    assert len(records) == 17
    for record in records:
        row = rows[record.source.image]
        assert record.phash16 == row["phash16"]
        assert ";".join(record.mask_sha256) == row["mask_sha256"]
        assert record.lesion_pixels == int(row["lesion_pixels"])
