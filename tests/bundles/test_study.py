"""A whole cross-validation, from pictures to the table."""

import csv
import json
import re
from pathlib import Path

import mlflow
import pytest

from ultrarefiner_monai.bundle.study import Study
from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.out_of_fold import PredictionIndex
from ultrarefiner_monai.reports.cross_validation import conduct


def test_out_of_fold_maps_cover_every_training_image_once(small_study):
    indices = [PredictionIndex.load(small_study.maps("phase1", fold, "coarse")) for fold in (0, 1)]
    predicted = sorted(entry["id"] for index in indices for entry in index.items)
    assert predicted == sorted(item["id"] for item in small_study.manifest.training)
    for fold, index in enumerate(indices):
        assert {entry["id"] for entry in index.items} == {
            item["id"] for item in small_study.manifest.split("val", fold)
        }


def test_test_images_get_the_mean_of_all_models(small_study):
    index = PredictionIndex.load(small_study.maps("phase1", None, "coarse"))
    assert index.fold is None
    assert {entry["id"] for entry in index.items} == {item["id"] for item in small_study.manifest.testing}


def test_per_image_rows_hold_every_fold_and_the_test_set(small_study):
    with (small_study.out / "per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    manifest = small_study.manifest
    assert len(rows) == 2 * (len(manifest.training) + len(manifest.testing))
    assert {row["fold"] for row in rows} == {"0", "1", "test"}
    assert all(0 <= float(row["refined_dice"]) <= 1 for row in rows)
    assert "| phase3 | test |" in small_study.table


def test_one_store_holds_the_parent_and_its_children(small_study):
    client = mlflow.MlflowClient(small_study.shared["tracking_uri"])
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
    assert "phase3_mean_refined_dice" in parent.data.metrics


def test_phase3_starts_from_phases_1_and_2_of_its_fold(small_study):
    executed = json.loads((small_study.folder("phase3", 1) / "executed_config.json").read_text())
    for phase in ("phase1", "phase2"):
        assert Path(executed[f"{phase}_checkpoint"]) == small_study.folder(phase, 1) / "model.pt"


def test_what_is_done_is_skipped_and_other_settings_are_refused(small_study):
    before = (small_study.folder("phase1", 0) / "model.pt").stat().st_mtime_ns
    small_study.run()
    assert (small_study.folder("phase1", 0) / "model.pt").stat().st_mtime_ns == before
    settings = {**small_study.settings, "phase1": {**small_study.settings["phase1"], "epochs": 2}}
    other = Study("PHANTOM", small_study.data_root, small_study.out, None, small_study.shared, settings)
    with pytest.raises(DataError, match=r"begun with epochs = 1.*asked for 2"):
        other.run()


def test_runs_hold_their_executed_configuration_scores_and_panels(small_study):
    client = mlflow.MlflowClient(small_study.shared["tracking_uri"])
    run_id = json.loads((small_study.folder("phase2", 0) / "mlflow_run.json").read_text())["run_id"]
    stored = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"executed_config.json", "per_image.csv", "panels"} <= stored
    assert any(small_study.folder("phase2", 0).glob("tensorboard/events*"))


@pytest.mark.parametrize(
    ("changes", "phases", "said"),
    [
        ({"shared": {"fold": 1}}, ("phase1",), "'fold' is set by the study; use --folds"),
        ({"shared": {"epoch": 1}}, ("phase1",), "unknown configuration key 'epoch' of phase1: did you mean 'epochs'?"),
        ({"folds": [7]}, ("phase1",), "fold 7 of PHANTOM: expected 0 to 4"),
        ({"settings": {"phse1": {}}}, ("phase1",), "unknown phase 'phse1'"),
        ({}, ("phase9",), "unknown phase 'phase9'"),
        ({"data_root": "nowhere"}, ("phase1",), "nowhere"),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_anything_is_written(changes, phases, said, tmp_path):
    study = Study(**({"dataset": "PHANTOM", "data_root": None, "out": tmp_path / "out"} | changes))
    with pytest.raises(DataError, match=re.escape(said)):
        conduct(study, phases)
    assert not list(tmp_path.iterdir())


def test_test_maps_are_averaged_anew_when_more_folds_are_done(small_study):
    first = Study("PHANTOM", small_study.data_root, small_study.out, [0], small_study.shared, small_study.settings)
    first.run(("phase3",))
    assert PredictionIndex.load(small_study.maps("phase3", None, "refined")).fold == 0
    small_study.run(("phase3",))
    assert PredictionIndex.load(small_study.maps("phase3", None, "refined")).fold is None
