"""Code in a file runs nowhere: checkpoints, weights, caches and artifacts are read as plain numbers."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ultrarefiner_monai
from ultrarefiner_monai.bundle.embeddings import EmbeddingCache
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.models.weights import CheckpointError, load_model, read_torch
from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.networks.sam.weights import load_checkpoint
from ultrarefiner_monai.networks.transunet import build_transunet
from ultrarefiner_monai.networks.transunet_npz import load_npz

pytestmark = pytest.mark.fault(18)
KEY = "ab" + "0" * 62


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(canary: Canary, path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": canary}))


def saved(canary: Canary, path: Path) -> None:
    torch.save({"weight": canary}, path)


def objects(canary: Canary, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **{"embedding": np.array([canary], dtype=object), "signature": np.array("s")})


def read_cache(path: Path) -> None:
    cache = EmbeddingCache(path.parent / "cache", "s")
    file = path.parent / f"cache/ab/{KEY}.npz"
    file.parent.mkdir(parents=True)
    path.replace(file)
    assert cache.get(KEY) is None
    raise DataError("made anew")


READERS = {
    "model": lambda path: load_model(nn.Linear(3, 2), path),
    "checkpoint": read_torch,
    "segmenter": load_segmenter,
    "SAM": lambda path: load_checkpoint(build_sam("tiny", image_size=64), path),
    "TransUNet": lambda path: load_npz(build_transunet("tiny", 64), path),
    "embeddings": read_cache,
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [pickled, saved, objects])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", READERS)
def test_no_code_runs(kind, suffix, write, tmp_path):
    write(Canary(tmp_path / "canary"), tmp_path / f"model{suffix}")
    with pytest.raises((CheckpointError, DataError, ValueError)) as caught:
        READERS[kind](tmp_path / f"model{suffix}")
    assert str(caught.value).isprintable() and not (tmp_path / "canary").exists()


def test_the_canary_sings(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_nothing_in_the_package_unpickles():
    """No call that would: whoever adds one has to say `weights_only=True` or `allow_pickle=False`."""
    safe = {"load": {"weights_only": True, "allow_pickle": False}}
    found = []
    for path in Path(ultrarefiner_monai.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                found += [
                    f"{path.name}: {name}" for name in names & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}
                ]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                told = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
                if not told.items() & safe["load"].items():
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("read_pickle", "yaml.unsafe_load")):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found
