"""Two processes train together, on the CPU through gloo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ultrarefiner_monai.bundle.paths import BUNDLES


@pytest.mark.slow
def test_two_processes_train_phase1(small_release, tmp_path):
    configs = [str(BUNDLES / "phase1" / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    keys = {**small_release, "variant": "tiny", "image_size": 64, "epochs": 1, "batch_size": 2}
    keys |= {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    options = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "monai.bundle",
        "run",
    ]
    done = subprocess.run(
        [*command, "--config_file", str(configs), *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["epoch"] == 1
    rows = (tmp_path / "out" / "per_image.csv").read_text().splitlines()
    manifest = json.loads(Path(small_release["manifest"]).read_text())
    assert len(rows) == 1 + sum(item["fold"] == 0 for item in manifest["training"])
