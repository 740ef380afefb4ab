"""The SLURM scripts in docs/examples, where SLURM's commands run what they are given at once and on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import options

from ultrarefiner_monai.shipped import BUNDLES

pytestmark = pytest.mark.slow
CHECKOUT = BUNDLES.parent
COMMANDS = {
    "srun": 'exec "$@"',
    "scontrol": 'test "$1 $2 $3" = "show hostnames node[7-8]" && echo localhost',
    # The job's output goes to standard error, since standard output is sbatch's own.
    "sbatch": """
echo "$@" >> "$SBATCH_CALLS"
for word in "$@"; do case $word in --array=*) last=${word#--array=0-} ;; esac; wrap=$word; done
for SLURM_ARRAY_TASK_ID in $(seq 0 "${last:-0}"); do
    export SLURM_ARRAY_TASK_ID
    bash -c "$wrap" >&2 || exit 1
done
echo 7
""",
}


@pytest.fixture
def slurm(tmp_path):
    """Runs one of the scripts with arguments, as in a folder that `ultrarefiner bundles --out .` has filled."""
    for name, body in COMMANDS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    job = {"SLURM_JOB_ID": "3", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "1"}

    def run(script, *words, **variables):
        command = ["bash", f"docs/examples/{script}", *words]
        environment = os.environ | job | variables | {"PATH": path, "SBATCH_CALLS": str(tmp_path / "calls")}
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


def test_all_gpus_of_a_job_train_one_fold_and_the_same_job_goes_on(slurm, small_cv, small_release, tmp_path):
    keys = {**small_release, **small_cv.settings["phase1"], "batch_size": 2, "output_dir": tmp_path / "out"}
    keys["tracking_uri"] = f"sqlite:///{tmp_path}/m.db"
    for epochs in (1, 2):
        slurm("slurm_train.sh", "phase1", *options(keys | {"epochs": epochs}), SLURM_GPUS_ON_NODE="2")
        losses = [
            line for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines() if "train_loss" in line
        ]
        assert len(losses) == epochs
    assert json.loads((tmp_path / "out" / "model.json").read_text())["phase"] == "phase1"


def test_a_job_for_each_fold_ends_in_the_table_of_one_process(slurm, small_cv, small_release, tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(small_cv.settings))
    keys = {name: small_release[name] for name in ("data_root", "manifest")}
    keys |= {"out": tmp_path / "study", "settings": settings, "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    slurm("slurm_cv.sh", "PHANTOM", *options(keys), JOB="--gpus=1 --partition=long", FOLDS="2")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [("--array=0-1" in call, "--dependency=afterok:7" in call) for call in calls] == [
        (True, False),
        (True, True),
        (True, True),
        (False, True),
    ]
    assert all("--gpus=1 --partition=long" in call for call in calls)
    assert (tmp_path / "study" / "summary.md").read_text() == (small_cv.out / "summary.md").read_text()
