"""Two processes train together, on the CPU through gloo."""

import json
import subprocess
import sys

import pytest
from command_line import options

from ultrarefiner_monai.cross_validation.tasks import config_files
from ultrarefiner_monai.systems import all_stages, find_stage
from ultrarefiner_monai.systems.keys import configuration


@pytest.mark.parametrize("stage", all_stages())
def test_weights_of_losses_that_are_learned_are_the_same_in_all_processes(stage):
    """DistributedDataParallel averages the gradients of the network alone."""
    found = find_stage(stage)[1]
    learns = "@loss" in json.dumps(configuration(found)["optimizer"])
    assert ("$bundle.average_gradients(@loss)" in configuration(found, "multi_gpu_train")["initialize"]) == learns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "more"), [*((stage, {}) for stage in all_stages()), ("phase3", {"frozen_epochs": 1, "anchor": 0.1})]
)
def test_two_processes_train(phase, more, cv_of, small_release, tmp_path):
    cv, stage = cv_of(phase), find_stage(phase)[1]
    configs = config_files(stage.bundle, *stage.configs, "multi_gpu_train")
    keys = {**small_release, **cv.settings[phase], "batch_size": 2, **more}
    keys |= {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    keys |= {key: str(cv.out / name) for key, name in stage.feeds.items()}
    keys |= {key: str(cv.folder(name, 0) / "model.pt") for key, name in stage.starts.items()}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "monai.bundle", "run", "--config_file", str(configs), *options(keys)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    if phase == "phase1":  # and one goes on alone, with twice the iterations an epoch
        (config,) = config_files(stage.bundle, "train")
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config]
        command += options(keys | {"epochs": 2, "resume": "true"})
        alone = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert alone.returncode == 0, alone.stderr[-2000:]
        assert "2 iterations an epoch until epoch 1, 4 from now on" in alone.stdout + alone.stderr
        lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
        assert [line["lr_0"] for line in lines if line["step"] == 2 and "lr_0" in line] == [pytest.approx(0)]
        return
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["epoch"] == 1
    rows = (tmp_path / "out" / "per_image.csv").read_text().splitlines()
    assert len(rows) == 1 + len(cv.manifest.split("val", 0))
