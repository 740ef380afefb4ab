from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from ultrarefiner_monai.bundle.embeddings import EmbeddingCache, encoder_signature
from ultrarefiner_monai.errors import DataError

KEY = "ab" + "0" * 62
SIGNATURE = encoder_signature("weights", "vit_b", 1024)


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", SIGNATURE)


@pytest.fixture
def embedding() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, 4, 4)).astype(np.float16)


def file_of(cache: EmbeddingCache) -> Path:
    return next(cache.folder.rglob("*.npz"))


def test_what_is_put_comes_back_exactly(cache, embedding):
    assert cache.get(KEY) is None
    cache.put(KEY, embedding)
    back = EmbeddingCache(cache.folder, SIGNATURE).get(KEY)
    assert back.dtype == np.float16
    assert np.array_equal(back, embedding)
    assert [path.name for path in cache.folder.rglob("*") if path.is_file()] == [f"{KEY}.npz"]


def test_single_precision_is_halved(cache):
    cache.put(KEY, np.array([1.0, 2.0001], np.float32))
    assert cache.get(KEY).tolist() == [1.0, 2.0]


def test_a_later_embedding_replaces_an_earlier_one(cache, embedding):
    cache.put(KEY, embedding)
    cache.put(KEY, embedding + 1)
    assert np.array_equal(cache.get(KEY), embedding + 1)


@pytest.mark.parametrize(
    "other",
    [
        encoder_signature("other weights", "vit_b", 1024),
        encoder_signature("weights", "vit_l", 1024),
        encoder_signature("weights", "vit_b", 512),
        encoder_signature("weights", "vit_b", 1024, amp="bfloat16"),
    ],
)
def test_a_stale_embedding_is_refused_until_it_is_overwritten(cache, embedding, other):
    cache.put(KEY, embedding)
    with pytest.raises(DataError, match=f"stale embedding, expected {other}, found {SIGNATURE}; delete"):
        EmbeddingCache(cache.folder, other).get(KEY)
    again = EmbeddingCache(cache.folder, other)
    again.put(KEY, embedding)
    assert np.array_equal(again.get(KEY), embedding)


def test_a_signature_is_stable_and_readable():
    assert encoder_signature("w", "tiny", 64, a=1, b=None) == encoder_signature("w", "tiny", 64, b=None, a=1)
    assert SIGNATURE.startswith("vit_b-1024-")


@pytest.mark.parametrize("position", [0, 30, 90, 200, 450, -60, -1])
def test_a_flipped_byte_never_passes_for_an_embedding(cache, embedding, position):
    cache.put(KEY, embedding)
    path = file_of(cache)
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)
    try:
        found = cache.get(KEY)  # whole, where the byte means nothing, such as a time stamp
        assert found is None or np.array_equal(found, embedding)
    except DataError as error:
        assert "stale" in str(error) and path.name in str(error)


def test_flipped_bits_in_the_numbers_are_found_and_mended(cache, embedding, caplog):
    cache.put(KEY, embedding)
    path = file_of(cache)
    content = path.read_bytes()
    start = content.index(embedding.tobytes())
    path.write_bytes(content[: start + 9] + bytes([content[start + 9] ^ 1]) + content[start + 10 :])
    assert cache.get(KEY) is None
    assert "damaged embedding, made anew" in caplog.text and path.name in caplog.text
    cache.put(KEY, embedding)
    assert np.array_equal(cache.get(KEY), embedding)


@pytest.mark.parametrize("length", [0, 1, 100, 400])
def test_a_truncated_file_is_made_anew(cache, embedding, length):
    cache.put(KEY, embedding)
    path = file_of(cache)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get(KEY) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_values_that_half_precision_cannot_hold_are_not_stored(cache, bad):
    with pytest.raises(ValueError, match="65504"):
        cache.put(KEY, np.array([0.0, bad]))
    assert cache.get(KEY) is None


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "", "a", "..", "ab/cd", "ab\0cd"])
def test_keys_cannot_leave_the_folder(cache, embedding, key):
    with pytest.raises(DataError, match="no key of an embedding"):
        cache.put(key, embedding)


def test_a_full_disk_leaves_what_was_there(cache, embedding, monkeypatch):
    cache.put(KEY, embedding)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); needs 0\.0 MB"):
        cache.put(KEY, embedding + 1)
    assert np.array_equal(cache.get(KEY), embedding)
    assert len(list(cache.folder.rglob("*.*"))) == 1


def _fill(folder: Path) -> None:
    cache = EmbeddingCache(folder, SIGNATURE)
    for number in range(20):
        cache.put(f"{number:04d}", np.full((8, 4, 4), number))


def test_several_processes_may_fill_one_cache(cache):
    context = get_context("fork")
    workers = [context.Process(target=_fill, args=(cache.folder,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers)
    assert all((cache.get(f"{number:04d}") == number).all() for number in range(20))
    assert not list(cache.folder.rglob("*.tmp"))
