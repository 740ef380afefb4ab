"""Planted copies are found, different pictures are not."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.near_duplicates import hash_bits, near_duplicate_pairs, near_duplicates_between
from ultrarefiner_monai.data.records import phash16

ZERO = "0" * 64


def _flipped(bits: int) -> str:
    """Hash that differs from `ZERO` in the first `bits` bits."""
    return f"{((1 << bits) - 1) << (256 - bits):064x}"


def test_bits_follow_the_hexadecimal_digits() -> None:
    bits = hash_bits(["8" + "0" * 62 + "1"])
    assert np.flatnonzero(bits[0]).tolist() == [0, 255]


def test_sixty_bits_are_near_and_sixty_one_are_not() -> None:
    assert near_duplicate_pairs([ZERO, _flipped(60)]) == [(0, 1)]
    assert near_duplicate_pairs([ZERO, _flipped(61)]) == []
    assert near_duplicate_pairs([ZERO, _flipped(5), ZERO], max_distance=4) == [(0, 2)]


def test_no_image_or_one_has_no_duplicate() -> None:
    assert near_duplicate_pairs([]) == []
    assert near_duplicate_pairs([ZERO]) == []


def test_pairs_across_datasets() -> None:
    far = "0f" * 32
    assert near_duplicates_between([far, ZERO], [_flipped(3), _flipped(9)]) == [(1, 0), (1, 1)]


@pytest.mark.parametrize("text", ["", "00", "zz" * 32])
def test_a_malformed_hash_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="hexadecimal digits"):
        near_duplicate_pairs([ZERO, text])


def test_blocks_do_not_change_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    hashes = [generator.bytes(32).hex() for _ in range(23)]
    hashes[20] = hashes[3]
    expected = near_duplicate_pairs(hashes)
    monkeypatch.setattr("ultrarefiner_monai.data.near_duplicates.BLOCK", 5)
    assert near_duplicate_pairs(hashes) == expected == [(3, 20)]


def _shift(image: Image.Image) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1))


def _calipers(image: Image.Image) -> Image.Image:
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    width, height = copy.size
    for x, y in ((0.3, 0.3), (0.6, 0.5), (0.45, 0.2), (0.45, 0.6)):
        cx, cy = x * width, y * height
        draw.line((cx - 8, cy, cx + 8, cy), fill=255, width=2)
        draw.line((cx, cy - 8, cx, cy + 8), fill=255, width=2)
    draw.line((0.3 * width, 0.3 * height, 0.6 * width, 0.5 * height), fill=255)
    return copy


def _jpeg(image: Image.Image, folder: Path) -> Image.Image:
    image.save(folder / "copy.jpg", quality=40)
    with Image.open(folder / "copy.jpg") as copy:
        return copy.convert("L")


def test_planted_copies_of_real_images_are_found(shared_data: Path, tmp_path: Path) -> None:
    """At least 95 % of mirrored, shifted, compressed and annotated copies, under 1 % false pairs (here: none)."""
    files = sorted((shared_data / "BUS-BRA/BUSBRA/Images").glob("*.png"))[::20]
    originals = [Image.open(file).convert("L") for file in files]
    changes = (ImageOps.mirror, ImageOps.flip, _shift, _calipers, lambda image: _jpeg(image, tmp_path))
    copies = [change(image) for image in originals for change in changes]
    pairs = near_duplicates_between([phash16(image) for image in originals], [phash16(image) for image in copies])
    true = {(index, index * len(changes) + k) for index in range(len(originals)) for k in range(len(changes))}
    assert len(true & set(pairs)) >= 0.95 * len(true)
    assert set(pairs) <= true


def test_counts_over_the_complete_releases(shared_data: Path) -> None:
    """The counts of the data specification: 219 pairs in BUSI, none in BUS-BRA, none across datasets."""
    hashes = {}
    for name in ("BUSI", "BUSBRA", "BUS_UCLM"):
        with (shared_data / f"inventory/{name}.csv").open(encoding="utf-8", newline="") as file:
            hashes[name] = [row["phash16"] for row in csv.DictReader(file)]
    assert len(near_duplicate_pairs(hashes["BUSI"])) == 219
    assert near_duplicate_pairs(hashes["BUSBRA"]) == []
    assert near_duplicates_between(hashes["BUSI"], hashes["BUSBRA"] + hashes["BUS_UCLM"]) == []
