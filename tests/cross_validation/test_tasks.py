"""A whole cross-validation, from pictures to the table."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.engines import LocalEngine
from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_json


def test_out_of_fold_maps_cover_every_training_image_once(small_cv):
    indices = [PredictionIndex.load(small_cv.maps("phase1", fold, "coarse")) for fold in (0, 1)]
    predicted = sorted(entry["id"] for index in indices for entry in index.items)
    assert predicted == sorted(item["id"] for item in small_cv.manifest.training)
    for fold, index in enumerate(indices):
        assert {entry["id"] for entry in index.items} == {item["id"] for item in small_cv.manifest.split("val", fold)}


def test_test_images_get_the_mean_of_all_models(small_cv):
    index = PredictionIndex.load(small_cv.maps("phase1", None, "coarse"))
    assert index.fold is None
    assert {entry["id"] for entry in index.items} == {item["id"] for item in small_cv.manifest.testing}


def test_per_image_rows_hold_every_fold_and_the_test_set(small_cv):
    with (small_cv.out / "per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    manifest = small_cv.manifest
    assert len(rows) == 2 * (len(manifest.training) + len(manifest.testing))
    assert {row["fold"] for row in rows} == {"0", "1", "test"}
    assert all(0 <= float(row["refined_dice"]) <= 1 for row in rows)
    assert "| phase3 | test |" in small_cv.table


def test_one_store_holds_the_parent_and_its_children(small_cv):
    client = mlflow.MlflowClient(small_cv.shared["tracking_uri"])
    experiment = client.get_experiment_by_name("PHANTOM")
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.data.tags.get("kind") == "cross-validation")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 6
    assert all(run.info.status == "FINISHED" for run in runs)
    third = next(run for run in children if run.data.params["phase"] == "phase3")
    assert {
        "val_coarse_dice",
        "val_refined_dice",
        "val_delta_dice",
        "weight_coarse",
        "weight_refined",
    } <= third.data.metrics.keys()
    dice = [run.data.metrics["phase3_refined_dice_" + kind] for run in [parent] for kind in ("mean", "sd", "test")]
    with (small_cv.out / "per_image.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "phase3"]
    by_fold = {
        fold: np.mean([float(row["refined_dice"]) for row in rows if row["fold"] == fold])
        for fold in ("0", "1", "test")
    }
    folds = [by_fold["0"], by_fold["1"]]
    assert dice == pytest.approx([np.mean(folds), np.std(folds, ddof=1), by_fold["test"]], abs=1e-6)


def test_phase3_starts_from_phases_1_and_2_of_its_fold(small_cv):
    executed = json.loads((small_cv.folder("phase3", 1) / "executed_config.json").read_text())
    for phase in ("phase1", "phase2"):
        assert Path(executed[f"{phase}_checkpoint"]) == small_cv.folder(phase, 1) / "model.pt"


def test_what_is_done_is_skipped_and_other_settings_are_refused(small_cv):
    before = (small_cv.folder("phase1", 0) / "model.pt").stat().st_mtime_ns
    conduct([small_cv])
    assert (small_cv.folder("phase1", 0) / "model.pt").stat().st_mtime_ns == before
    settings = {**small_cv.settings, "phase1": {**small_cv.settings["phase1"], "epochs": 2}}
    other = CrossValidation("PHANTOM", small_cv.data_root, small_cv.out, None, small_cv.shared, settings)
    with pytest.raises(DataError, match=r"begun with epochs = 1.*asked for 2"):
        conduct([other])


def test_runs_hold_their_executed_configuration_scores_and_panels(small_cv):
    client = mlflow.MlflowClient(small_cv.shared["tracking_uri"])
    run_id = json.loads((small_cv.folder("phase2", 0) / "mlflow_run.json").read_text())["run_id"]
    stored = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"executed_config.json", "per_image.csv", "panels"} <= stored
    assert any(small_cv.folder("phase2", 0).glob("tensorboard/events*"))


@pytest.mark.parametrize(
    ("changes", "phases", "said"),
    [
        ({"shared": {"fold": 1}}, ("phase1",), "'fold' is set by the cross-validation; use --folds"),
        ({"shared": {"split": "test"}}, ("phase1",), "'split' is set by the cross-validation; use nothing"),
        ({"shared": {"epoch": 1}}, ("phase1",), "unknown configuration key 'epoch': did you mean 'epochs'?"),
        ({"folds": [7]}, ("phase1",), "fold 7 of PHANTOM: expected 0 to 4"),
        ({"settings": {"phse1": {}}}, ("phase1",), "unknown stage 'phse1'"),
        ({}, ("phase9",), "unknown stage 'phase9'"),
        ({"data_root": "nowhere"}, ("phase1",), "nowhere"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(changes, phases, said, tmp_path):
    cv = CrossValidation(**({"dataset": "PHANTOM", "data_root": None, "out": tmp_path / "out"} | changes))
    with pytest.raises(DataError, match=re.escape(said)):
        conduct([cv], phases)
    assert not list(tmp_path.iterdir())


def test_test_maps_are_averaged_anew_when_more_folds_are_done(small_cv):
    first = CrossValidation("PHANTOM", small_cv.data_root, small_cv.out, [0], small_cv.shared, small_cv.settings)
    LocalEngine().run(first.tasks(("phase3",)))
    assert PredictionIndex.load(small_cv.maps("phase3", None, "refined")).fold == 0
    LocalEngine().run(small_cv.tasks(("phase3",)))
    assert PredictionIndex.load(small_cv.maps("phase3", None, "refined")).fold is None


def test_the_manifest_is_read_once_however_many_tasks_there_are(small_release, monkeypatch):
    read = []
    found = read_manifest("PHANTOM", small_release["manifest"], 0)
    monkeypatch.setattr(
        "ultrarefiner_monai.cross_validation.tasks.read_manifest", lambda *key, fold: read.append(key) or found
    )
    cv = CrossValidation("PHANTOM", None, Path("out"), None, {"manifest": small_release["manifest"]})
    cv.check()
    assert len(cv.tasks()) == 9
    assert len(read) == 1


def test_tasks_come_after_what_they_need(small_release):
    cv = CrossValidation("PHANTOM", None, Path("out"), None, {"manifest": small_release["manifest"]})
    of_phase1 = {"out phase1 fold 0", "out phase1 fold 1"}
    assert {task.name: set(task.after) for task in cv.tasks()} == {
        "out phase1 fold 0": set(),
        "out phase1 fold 1": set(),
        "out phase1 test": of_phase1,
        "out phase2 fold 0": of_phase1 | {"out phase1 test"},
        "out phase2 fold 1": of_phase1 | {"out phase1 test"},
        "out phase2 test": {"out phase2 fold 0", "out phase2 fold 1"},
        "out phase3 fold 0": {"out phase1 fold 0", "out phase2 fold 0"},
        "out phase3 fold 1": {"out phase1 fold 1", "out phase2 fold 1"},
        "out phase3 test": {"out phase3 fold 0", "out phase3 fold 1"},
    }
    assert [task.name for task in cv.tasks() if not task.gpu] == [f"out phase{n} test" for n in (1, 2, 3)]


def test_tasks_leave_out_what_is_done_and_folds_of_others(small_release, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv = CrossValidation("PHANTOM", None, Path("out"), None, {"manifest": small_release["manifest"]})
    folder = cv.folder("phase1", 0)
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text("{}")
    assert [task.name for task in cv.tasks(["phase1"])] == ["out phase1 fold 1", "out phase1 test"]
    assert [task.name for task in cv.tasks(["phase2"], [1])] == ["out phase2 fold 1", "out phase2 test"]


def test_a_mistake_in_one_does_not_stop_the_other(small_cv, small_release, tmp_path):
    shared = {**small_cv.shared, "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    wrong = CrossValidation("PHANTOM", small_release["data_root"], tmp_path / "wrong", None, shared, small_cv.settings)
    for fold in (0, 1):
        write_json(wrong.folder("phase1", fold) / "settings.json", wrong.overrides("phase1", fold))
        (wrong.folder("phase1", fold) / "checkpoint.pt").touch()
    cvs = [
        wrong,
        CrossValidation("PHANTOM", small_release["data_root"], small_cv.out, None, shared, small_cv.settings),
    ]
    (small_cv.out / "summary.md").unlink()
    with pytest.raises(DataError, match=r"^9 tasks are not done.*checkpoint\.pt") as caught:
        conduct(cvs)
    assert "\n" not in str(caught.value)
    assert (small_cv.out / "summary.md").is_file()
    client = mlflow.MlflowClient(shared["tracking_uri"])
    runs = client.search_runs([client.get_experiment_by_name("PHANTOM").experiment_id])
    parents = [run.info.status for run in runs if run.data.tags.get("kind") == "cross-validation"]
    assert sorted(parents) == ["FAILED", "FINISHED"]


def test_it_goes_on_elsewhere_but_not_with_other_settings(small_cv, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(small_cv.out, moved)
    root = shutil.copytree(small_cv.data_root, tmp_path / "PHANTOM")
    shared = {**small_cv.shared, "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    CrossValidation("PHANTOM", str(root), moved, None, shared, small_cv.settings).check()
    with pytest.raises(DataError, match=r"phase1/fold0: begun with seed = None, asked for 7"):
        CrossValidation("PHANTOM", str(root), moved, None, shared | {"seed": 7}, small_cv.settings).check()


def test_settings_of_a_fold_that_has_learnt_nothing_may_change(small_release, tmp_path):
    """`--variant` once failed after it had left its settings in every fold, so that the corrected command was refused."""
    shared = {"manifest": small_release["manifest"]}
    begun = CrossValidation("PHANTOM", small_release["data_root"], tmp_path, [0], shared)
    (begun.folder("phase1", 0)).mkdir(parents=True)
    (begun.folder("phase1", 0) / "settings.json").write_text('{"dataset": "PHANTOM", "variant": "lite_medsam"}')
    begun.check()
    (begun.folder("phase1", 0) / "checkpoint.pt").touch()
    with pytest.raises(DataError, match="begun with variant = 'lite_medsam'"):
        begun.check()


def test_settings_of_an_earlier_version_are_read_as_they_are_meant(small_release, tmp_path):
    """They were kept as they were typed."""
    shared = {"manifest": small_release["manifest"], "allow_missing": "true", "seed": "1"}
    begun = CrossValidation("PHANTOM", small_release["data_root"], tmp_path, [0], shared)
    write_json(begun.folder("phase1", 0) / "settings.json", begun.overrides("phase1", 0) | {"allow_missing": "True"})
    (begun.folder("phase1", 0) / "checkpoint.pt").touch()
    begun.check(["phase1"], [0])


def test_a_training_of_others_is_not_taken_for_its_own(small_release, tmp_path):
    """A bundle that had trained into its folder once was."""
    cv = CrossValidation("PHANTOM", small_release["data_root"], tmp_path, None, {"manifest": small_release["manifest"]})
    folder = cv.folder("phase1", 0)
    folder.mkdir(parents=True)
    (folder / "model.pt").touch()
    with pytest.raises(DataError, match="phase1/fold0: holds a training that is not of a cross-validation"):
        cv.check()
    write_json(folder / "settings.json", cv.overrides("phase1", 0))
    write_json(folder / "finished.json", {"model_sha256": "a" * 64})
    write_json(folder / "model.json", {"sha256": "a" * 64})
    cv.check()
    write_json(folder / "model.json", {"sha256": "b" * 64})
    with pytest.raises(
        DataError, match="phase1/fold0: another training has replaced the model since this fold was done"
    ):
        cv.check()


@pytest.mark.slow
def test_ray_with_a_killed_worker_ends_with_the_numbers_of_the_local_engine(small_cv, small_release, tmp_path):
    pytest.importorskip("ray")
    epochs = 4
    settings = small_cv.settings | {"phase1": small_cv.settings["phase1"] | {"epochs": epochs}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with (tmp_path / "ray.log").open("w") as log, start_cv("ray", small_release, tmp_path, log) as running:
        try:
            kill_worker(running, tmp_path / "ray")
            assert running.wait(timeout=500) == 0, (tmp_path / "ray.log").read_text()
        finally:
            running.kill()
    with start_cv("local", small_release, tmp_path, subprocess.DEVNULL) as running:
        assert running.wait(timeout=500) == 0
    words = (tmp_path / "ray.log").read_text()
    assert 1 <= int(re.search(r"resuming after epoch (\d+)", words)[1]) < epochs
    models = [f"phase{phase}/fold{fold}/model.pt" for phase in (1, 2, 3) for fold in (0, 1)]
    for name in ("per_image.csv", "summary.md", *models):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'ray.db'}")
    runs = client.search_runs([client.get_experiment_by_name("PHANTOM").experiment_id])
    assert len(runs) == 7  # a parent and a child a phase and fold: the killed one goes on in its own run
    assert {run.info.status for run in runs} == {"FINISHED"}


def start_cv(engine, release, folder, log):
    """Start `ultrarefiner cv` with an engine; its results go into the folder of the engine's name."""
    command = [sys.executable, "-m", "ultrarefiner_monai", "cv", "PHANTOM", release["data_root"]]
    command += f"--engine {engine} --out {engine} --tracking_uri sqlite:///{engine}.db --settings settings.json".split()
    command += ["--manifest", release["manifest"]]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=subprocess.STDOUT
    )


def kill_worker(running, out):
    """Kill the process that trains fold 1 of phase 1 in its second epoch."""
    while not (out / "phase1" / "fold1" / "checkpoint.pt").is_file():
        assert running.poll() is None, "ended before it could be killed"
        time.sleep(0.05)
    title = "ray::ray phase1 fold 1"
    family = psutil.Process(running.pid).children(recursive=True)
    (worker,) = [process for process in family if " ".join(process.cmdline()).startswith(title)]
    worker.kill()
