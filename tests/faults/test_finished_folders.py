"""What a start must not harm: the work of a finished training, the folder of a mistyped command, a store that many make."""

import subprocess
import sys
from functools import partial

import pytest
from forks import forked
from mlflow.tracking import MlflowClient
from verbs import files_of, run_verb

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.systems import find_stage

TOGETHER = """
import os, sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store, torch.utils.tensorboard  # once, before the processes part
from ultrarefiner_monai.tracking import Tracker

for turn in range(int(sys.argv[2])):
    folder = Path(sys.argv[1], str(turn))
    reading, writing = os.pipe()
    children = []
    for number in range(6):
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # all begin when the parent closes its end
            uri = f"sqlite:///{folder / 'new' / 'mlruns.db'}"
            tracker = Tracker(uri=uri, experiment="PHANTOM", run_name=str(number), output_dir=folder / str(number))
            tracker.log_metrics({"dice": number / 8}, 1)
            tracker.finish()
            os._exit(0 if tracker.run_id else 1)
        children.append(child)
    os.close(writing)
    os.close(reading)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6, turn
"""


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "many"], "epochs"),
        (["--epoch", 3], "epoch"),
        (["--folds", 7], "fold 7"),
        (["--sam_size", 65], "65"),
        (["--phases", "phase9"], "phase9"),
        (["--settings", "absent.json"], "absent.json"),
        (["--sam_checkpoint", "absent.pth"], "absent.pth"),
        (["--manifest", "absent.json"], "absent.json"),
    ],
)
def test_a_wrong_value_leaves_nothing_behind(words, said, given, tmp_path):
    """No folder, no store, no lock."""
    known = ["--manifest", given.manifest] * ("--manifest" not in words)
    store = f"sqlite:///{tmp_path / 'mlruns.db'}"
    cv = ["cv", "PHANTOM", "--data_root", given.release, "--out", "results", "--tracking_uri", store, *known, *words]
    done = run_verb(cv, tmp_path)
    assert done.code in (1, 2) and done.err.count("\n") == 1 and said in done.err, done
    assert not list(tmp_path.iterdir())


def refuses(stage, folder, cwd, **keys):
    """Whether a training into the folder of a finished one is refused and leaves every file as it was."""
    found = find_stage(stage)[1]
    before = files_of(folder)
    done = forked(partial(run_bundle, found.bundle, *found.configs, **keys), cwd)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "a finished training of 1 of 1 epochs; go on with it by --resume true" in done.err.splitlines()[-1]
    assert files_of(folder) == before


@pytest.mark.fault(30)
def test_a_finished_training_is_not_replaced_unasked(training, store, tmp_path):
    refuses("phase1", training.folder, tmp_path, **training.keys | {"tracking_uri": store})


@pytest.mark.slow
@pytest.mark.fault(30)
def test_a_finished_training_of_every_stage(stage, cv_of, stage_keys, tmp_path):
    folder = cv_of(stage).folder(stage, 0)
    refuses(stage, folder, tmp_path, **stage_keys | {"output_dir": str(folder)})


@pytest.mark.fault(31)
@pytest.mark.parametrize("turns", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_six_processes_make_one_store_and_all_record(tmp_path, turns):
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr and "fails" not in done.stderr
    for turn in range(turns):
        folder = tmp_path / str(turn) / "new"
        client = MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
        runs = client.search_runs([client.get_experiment_by_name("PHANTOM").experiment_id])
        found = {(run.info.run_name, run.info.status, run.data.metrics["dice"]) for run in runs}
        assert found == {(str(number), "FINISHED", number / 8) for number in range(6)}
        assert {path.name for path in folder.iterdir()} <= {"mlruns.db", "mlruns_artifacts", ".mlruns.db.lock"}
