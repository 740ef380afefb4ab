"""Small files of numbers that claim to hold much are refused by what they claim, before any memory is taken."""

import io
import json
import logging
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import fuzz

from ultrarefiner_monai.bundle.embeddings import EmbeddingCache
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.networks.sam.weights import load_checkpoint
from ultrarefiner_monai.networks.transunet import build_transunet
from ultrarefiner_monai.networks.transunet_npz import load_npz

pytestmark = pytest.mark.fault(25)
KEY = "ab" + "0" * 62


def npz(path: Path, **arrays: tuple[int, ...]) -> None:
    """Headers of float32 arrays of these shapes, with 64 bytes behind each."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in arrays.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(64))


def deflated(path: Path) -> None:
    """A checkpoint, packed again with a gigabyte of zeros."""
    torch.save({"a": torch.zeros(8)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        with archive.open(f"{path.stem}/data/9", "w") as file:
            for _ in range(1024):
                file.write(bytes(2**20))


def safetensors(path: Path, shape: list[int], end: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))


def check(parse, refusals=(DataError,), read=0):
    """In a process with fault 25's limits, as the fuzzer has it."""
    logging.disable(logging.WARNING)
    outcome = fuzz(lambda _: parse(), lambda generator: None, 1, refusals)
    logging.disable(logging.NOTSET)
    assert (outcome.read, outcome.faults) == (read, [])


def test_checkpoints(tmp_path):
    deflated(tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 10_000_000
    sam = build_sam("tiny", image_size=64)
    check(lambda: read_torch(tmp_path / "model.pt"))
    check(lambda: load_checkpoint(sam, tmp_path / "model.pt"), (ValueError,))


@pytest.mark.parametrize(("shape", "end"), [([10**6, 25_000], 10**11), ([16], 10**11), ([10**6, 25_000], 64)])
def test_safetensors(shape, end, tmp_path):
    safetensors(tmp_path / "m.safetensors", shape, end)
    check(lambda: read_torch(tmp_path / "m.safetensors"))


def test_a_header_of_safetensors_without_end(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", 2**62) + bytes(100))
    check(lambda: read_torch(tmp_path / "m.safetensors"))


def test_weights_of_transunet(tmp_path):
    network = build_transunet("tiny", 64)
    npz(tmp_path / "a.npz", cls=(10**6, 10**6))
    check(lambda: load_npz(network, tmp_path / "a.npz"), (ValueError,))
    np.savez_compressed(tmp_path / "b.npz", cls=np.zeros(50_000_000, np.float32))
    check(lambda: load_npz(network, tmp_path / "b.npz"), (ValueError,))


def test_cached_embeddings(tmp_path):
    """Made anew: damage of a cache is no error."""
    cache = EmbeddingCache(tmp_path, "s")
    (tmp_path / "ab").mkdir()
    npz(tmp_path / f"ab/{KEY}.npz", embedding=(10**6, 10**6), signature=())
    check(lambda: cache.get(KEY), read=1)
    np.savez_compressed(tmp_path / f"ab/{KEY}.npz", embedding=np.zeros(50_000_000, np.float16), signature=np.array("s"))
    check(lambda: cache.get(KEY), read=1)
    assert cache.get(KEY) is None
