"""Planted copies are found, different pictures are not; of each group of copies one stays."""

import csv
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import CHANGES
from scipy.ndimage import gaussian_filter

from ultrarefiner_monai.data.manifests.groups import excluded_duplicates
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.releases.copies.near_duplicates import correlation, duplicate_pairs
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import (
    HASH_BITS,
    MAX_DISTANCE,
    MIRRORS,
    hash_bits,
    mirrors,
    near_duplicate_pairs,
    near_duplicates_between,
)
from ultrarefiner_monai.data.releases.image_facts import phash16, thumbnail
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.errors import DataError

MakeRecord = Callable[..., Record]

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
    assert near_duplicate_pairs([ZERO, _flipped(61), ZERO]) == [(0, 2)]


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


def _all_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """What near-duplicates are by their definition: each pair's bits counted, with each mirror."""
    bits = hash_bits(hashes)
    distances = [(bits[:, None] ^ bits ^ mirror).sum(axis=2, dtype=int) for mirror in mirrors()]
    return [(int(i), int(j)) for i, j in np.argwhere(np.min(distances, axis=0) <= MAX_DISTANCE) if i < j]


def _changed(text: str, count: int, mirror: int, generator: np.random.Generator) -> str:
    """A hash mirrored, with `count` bits changed."""
    bits = hash_bits([text])[0] ^ mirrors()[mirror]
    bits[generator.choice(bits.size, count, replace=False)] ^= 1
    return np.packbits(bits).tobytes().hex()


@pytest.mark.parametrize("mirror", range(len(MIRRORS)))
def test_planted_pairs_are_those_of_all_pairs(mirror: int) -> None:
    generator = np.random.default_rng(mirror)
    hashes = [generator.bytes(32).hex() for _ in range(150)]
    counts = (0, 1, 30, 58, 59, 60, 61, 62, 63, 70)
    hashes += [_changed(text, count, mirror, generator) for text, count in zip(hashes, 4 * counts, strict=False)]
    expected = [(i, 150 + i) for i in range(40) if counts[i % len(counts)] <= MAX_DISTANCE]
    assert near_duplicate_pairs(hashes) == expected == _all_pairs(hashes)
    assert near_duplicates_between(hashes[:150], hashes[150:]) == [(i, j - 150) for i, j in expected]


def test_pairs_of_real_images_are_those_of_all_pairs() -> None:
    hashes = [item["phash16"] for item in load_manifest(shipped_manifest("BUSI")).items()]
    assert near_duplicate_pairs(hashes) == _all_pairs(hashes) != []


def test_memory_grows_with_the_hashes_and_not_with_their_pairs() -> None:
    generator = np.random.default_rng(0)
    hashes = [generator.bytes(32).hex() for _ in range(4000)]
    tracemalloc.start()
    near_duplicate_pairs(hashes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        peak < 4 * len(hashes) * HASH_BITS
    )  # a bit is a byte while it is sorted by parity; distances would take 64 MB


def _texture(seed: int) -> np.ndarray:
    """Smoothed noise (64, 64) uint8 with structure of about 5 px."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((64, 64)), 2)
    return np.clip(128 + 200 * noise, 0, 255).astype(np.uint8)


def test_correlation_of_a_picture_with_itself_its_negative_and_another() -> None:
    one, other = _texture(0), _texture(1)
    assert correlation(one.tobytes(), one.tobytes()) == pytest.approx(1)
    assert correlation(one.tobytes(), (255 - one).tobytes()) < 0.5
    assert correlation(one.tobytes(), other.tobytes()) < 0.5


@pytest.mark.parametrize(("mirror", "axes"), MIRRORS.items())
def test_correlation_undoes_the_mirror(mirror: str, axes: tuple[int, ...]) -> None:
    first = _texture(0)
    second = np.flip(first, axes).tobytes()
    values = {name: correlation(first.tobytes(), second, name) for name in MIRRORS}
    assert values.pop(mirror) == pytest.approx(1)
    assert max(values.values()) < 0.5


def test_correlation_does_not_mind_contrast_and_a_shift() -> None:
    first = _texture(0)
    moved = np.roll(first // 2 + 40, (3, -4), (0, 1))
    assert correlation(first.tobytes(), moved.tobytes()) > 0.95
    assert correlation(first.tobytes(), np.roll(first, 12, 1).tobytes()) < 0.5


def test_pictures_without_structure_do_not_correlate() -> None:
    flat = bytes([7]) * 4096
    assert correlation(flat, flat) == correlation(flat, _texture(0).tobytes()) == 0


def test_pixels_confirm_or_refute_what_the_hash_says(make_record: MakeRecord) -> None:
    texture = _texture(0)
    records = [
        make_record("a", "benign", "P1", _flipped(4), thumbnail=np.flip(texture, 1).tobytes()),
        make_record("b", "malignant", "P1", ZERO, thumbnail=np.flip(texture, 1).tobytes()),
        make_record("c", "benign", "P2", ZERO, thumbnail=_texture(1).tobytes()),
        make_record("d", phash=ZERO),
    ]
    pairs = {pair.ids: pair for pair in duplicate_pairs(records)}
    assert list(pairs) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    found = {key: (pair.distance, pair.confirmed, pair.refuted, pair.opposite) for key, pair in pairs.items()}
    assert found["a", "b"] == (4, True, False, True)
    assert found["a", "c"] == (4, False, True, False)
    assert found["c", "d"] == (0, False, False, False)  # d has no thumbnail
    assert [pairs["a", name].same_patient for name in "bcd"] == [True, False, None]
    assert pairs["a", "d"].correlation is None


def test_a_mirrored_copy_is_told_as_such(make_record: MakeRecord) -> None:
    columns = "5555" * 16  # the odd columns of the hash
    assert [(pair.mirror, pair.distance) for pair in duplicate_pairs(
        [make_record("a", phash=ZERO), make_record("b", phash=columns)]
    )] == [("left-right", 0)]  # fmt: skip


def test_same_bytes_need_no_thumbnail(make_record: MakeRecord) -> None:
    twins = [make_record(name, phash=ZERO, sha256="0" * 64) for name in "ab"]
    assert [pair.confirmed for pair in duplicate_pairs(twins)] == [True]


def test_the_first_image_with_a_lesion_of_each_group_stays(make_record: MakeRecord) -> None:
    records = [
        make_record("b2", phash=ZERO),
        make_record("a1", "normal", phash=_flipped(2)),
        make_record("b1", phash=_flipped(50)),
        make_record("c1", phash=_flipped(100)),  # 50 from b1, so in the group although 100 from b2
        make_record("z2", "normal", phash="f0" * 32),
        make_record("z1", "normal", phash="f0" * 32),
        make_record("single"),
    ]
    expected = {"a1": "b1", "b2": "b1", "c1": "b1", "z2": "z1"}
    reasons = {name: f"near-duplicate of {stays}" for name, stays in expected.items()}
    for ordered in (records, records[::-1]):
        assert list(excluded_duplicates(duplicate_pairs(ordered)).items()) == list(reasons.items())


def test_opposite_labels_on_near_duplicates_are_found(make_record: MakeRecord) -> None:
    records = [
        make_record("a", "benign", phash=ZERO),
        make_record("b", "malignant", phash=_flipped(60)),
        make_record("c", "benign", phash=ZERO),
        make_record("d", "normal", phash=ZERO),
        make_record("e", "malignant"),
    ]
    assert [pair.ids for pair in duplicate_pairs(records) if pair.opposite] == [("a", "b"), ("b", "c")]


def test_opposite_labels_in_a_group_are_told(make_record: MakeRecord) -> None:
    records = [make_record(n, label, phash=ZERO) for n, label in (("a", "benign"), ("b", "malignant"), ("c", "benign"))]
    reason = "near-duplicate of a, opposite labels among them"
    assert excluded_duplicates(duplicate_pairs([*records, make_record("d")])) == {"b": reason, "c": reason}


def test_a_false_hit_of_the_hash_excludes_nothing(make_record: MakeRecord) -> None:
    records = [make_record(str(seed), phash=ZERO, thumbnail=_texture(seed).tobytes()) for seed in range(3)]
    pairs = duplicate_pairs(records)
    assert [pair.refuted for pair in pairs] == [True, True, True]
    assert excluded_duplicates(pairs) == {}


def _planted(files: Sequence[Path], make_record: MakeRecord) -> dict[str, list[Record]]:
    """Records of the originals (kind "") and of their copies, one patient an original."""
    kinds = {"": lambda image: image, **CHANGES}
    records: dict[str, list[Record]] = {kind: [] for kind in kinds}
    for file in files:
        original = Image.open(file).convert("L")
        for kind, change in kinds.items():
            copy = change(original)
            facts = {"phash": phash16(copy), "thumbnail": thumbnail(copy)}
            records[kind].append(make_record(f"{file.stem} {kind}", patient=file.stem, **facts))
    return records


def _check_planted(records: dict[str, list[Record]]) -> None:
    """At least 95 % of each kind of copy confirmed, and under 1 % of what is confirmed false."""
    originals = records.pop("")
    right = wrong = 0
    for kind, copies in records.items():
        confirmed = [pair for pair in duplicate_pairs([*originals, *copies]) if pair.confirmed]
        found = sum(pair.same_patient is True for pair in confirmed)
        assert found >= 0.95 * len(copies), kind
        right, wrong = right + found, wrong + len(confirmed) - found
    assert wrong <= 0.01 * right


def test_planted_copies_of_real_images_are_found(shared_data: Path, make_record: MakeRecord) -> None:
    folders = ("BUS-BRA/BUSBRA/Images", "BUSI/Dataset_BUSI_with_GT/malignant", "BUS-UCLM/BUS-UCLM/images")
    files = [path for folder in folders for path in sorted((shared_data / folder).glob("*.png"))]
    _check_planted(_planted([path for path in files if "mask" not in path.name][::60], make_record))


def test_planted_copies_of_the_phantom_are_found(tmp_path: Path, make_record: MakeRecord) -> None:
    generate_phantom(tmp_path, 12)
    _check_planted(_planted(sorted((tmp_path / "images").glob("*_1.png")), make_record))


def test_real_copies_are_confirmed(shared_data: Path, make_record: MakeRecord) -> None:
    """Pairs of the sample that lie near in different ways: annotated, cropped, another class, a neighbouring frame."""
    busi, uclm = shared_data / "BUSI/Dataset_BUSI_with_GT", shared_data / "BUS-UCLM/BUS-UCLM/images"
    pairs = (
        (busi / "benign/benign (10).png", busi / "benign/benign (327).png"),
        (busi / "benign/benign (85).png", busi / "malignant/malignant (52).png"),
        (busi / "benign/benign (437).png", busi / "normal/normal (34).png"),
        (uclm / "COPE_015.png", uclm / "COPE_016.png"),
    )
    for files in pairs:
        pictures = [Image.open(file) for file in files]
        facts = [{"phash": phash16(picture), "thumbnail": thumbnail(picture)} for picture in pictures]
        (pair,) = duplicate_pairs([make_record(str(number), **one) for number, one in enumerate(facts)])
        assert pair.confirmed, files


def test_counts_over_the_complete_releases(shared_data: Path) -> None:
    """The counts of the data specification: 219 pairs in BUSI, none in BUS-BRA, none across datasets."""
    hashes = {}
    for name in ("BUSI", "BUSBRA", "BUS_UCLM"):
        with (shared_data / f"inventory/{name}.csv").open(encoding="utf-8", newline="") as file:
            hashes[name] = [row["phash16"] for row in csv.DictReader(file)]
    assert len(near_duplicate_pairs(hashes["BUSI"])) == 219
    assert near_duplicate_pairs(hashes["BUSBRA"]) == []
    assert near_duplicates_between(hashes["BUSI"], hashes["BUSBRA"] + hashes["BUS_UCLM"]) == []
