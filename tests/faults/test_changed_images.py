"""Images that were changed, lost, emptied or cut after the manifest was made."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from forks import forked
from mlflow.tracking import MlflowClient
from PIL import Image
from small_releases import TINY
from verbs import run_verb

from ultrarefiner_monai.cross_validation.tasks import run_bundle

pytestmark = pytest.mark.fault(11)


def change(path):
    """One pixel, of which only the hash tells."""
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


DAMAGES = {
    "changed": change,
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 200),
}


@pytest.fixture
def damaged(small_release, store, tmp_path):
    """Keys of a training on a copy of the release with one file damaged in each way, and the files' items."""
    root = shutil.copytree(small_release["data_root"], tmp_path / "release")
    document = json.loads(Path(small_release["manifest"]).read_text())
    fold = [item for item in document["training"] if item["fold"] == 1][: len(DAMAGES)]
    items = dict(zip(DAMAGES, fold, strict=True))
    for kind, item in items.items():
        DAMAGES[kind](root / item["image"])
    keys = {**small_release, **TINY["phase1"], "data_root": str(root), "output_dir": str(tmp_path / "out")}
    return keys | {"batch_size": 1, "tracking_uri": store}, items


def test_verify_lists_all(damaged, tmp_path):
    keys, items = damaged
    done = run_verb(["manifests", "verify", keys["manifest"], "--root", keys["data_root"]], tmp_path)
    assert done.code == 1 and not done.err
    for kind, item in items.items():
        assert any(item["image"] in line and kind in line for line in done.out.splitlines()), (kind, done.out)


def test_training_refuses(damaged, tmp_path):
    keys, items = damaged
    done = forked(partial(run_bundle, "phase1", "train", **keys), tmp_path)
    line = done.err.splitlines()[-1]
    assert done.code == 1 and "Traceback" not in done.err
    assert all(item["image"] in line for item in items.values()) and "--skip_bad true" in line
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_recorded_in_the_run(damaged, tmp_path):
    keys, items = damaged
    done = forked(partial(run_bundle, "phase1", "train", **keys, skip_bad=True), tmp_path)
    assert done.code == 0, done.err
    out, names = tmp_path / "out", sorted(item["id"] for item in items.values())
    assert sorted(entry["id"] for entry in json.loads((out / "excluded.json").read_text())) == names
    assert json.loads((out / "run.json").read_text())["excluded_items"] == len(names)
    client = MlflowClient(keys["tracking_uri"])
    run = json.loads((out / "mlflow_run.json").read_text())["run_id"]
    assert client.get_run(run).data.tags["excluded_items"] == str(len(names))
    assert "excluded.json" in {artifact.path for artifact in client.list_artifacts(run)}
