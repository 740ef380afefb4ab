"""The user's own command, as a process, from several folders."""

import subprocess
import sys

import pytest
from command_line import options

from ultrarefiner_monai.shipped import BUNDLES


def monai_run(config, *words, cwd):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_a_mistyped_key_is_refused_from_the_bundles_own_folder():
    done = monai_run("configs/train.json", "--epoch", "1", cwd=BUNDLES / "phase3")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "unknown configuration key 'epoch': did you mean 'epochs'?"


@pytest.mark.parametrize("phase", ["phase2"])
def test_runs_from_elsewhere_with_false_read_as_false(phase, tmp_path, small_release):
    keys = {**small_release, "variant": "tiny", "image_size": 64, "epochs": 1, "cache_embeddings": "false"}
    keys |= {"output_dir": "out", "tracking_uri": f"sqlite:///{tmp_path}/m.db", "coarse_predictions": "nowhere"}
    done = monai_run(BUNDLES / phase / "configs" / "train.json", *options(keys), cwd=tmp_path)
    assert done.returncode == 1
    assert "run the inference of the stage that makes these maps" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
