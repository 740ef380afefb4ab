"""Warnings about planted faults."""

import json

import pytest
from made_results import ONE, MadeResults

from ultrarefiner_monai.reports.result_checks import CHECKED, warnings_of
from ultrarefiner_monai.reports.result_files import read_results
from ultrarefiner_monai.reports.result_scores import score_results

OWN_PHASES = "Phase 3 of each fold starts from that fold's own phases 1 and 2."


def told(cv: MadeResults) -> tuple[list[tuple[str, str]], list[str]]:
    files = read_results(cv.folder)
    warnings, checks = warnings_of(files, score_results(files))
    return warnings, checks


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_sound_study(made_results_folder):
    warnings, checks = told(made_results_folder)
    assert {kind for kind, _ in warnings} == {"note"}  # no record in MLflow, few patients
    assert ("note", "test: 2 patients, so few that intervals are rough and too short") in warnings
    assert checks == list(CHECKED)  # what phase 3 starts from is known by its record only


def test_an_image_predicted_by_a_model_that_has_seen_it(make_results):
    cv = make_results()
    cv.write_maps("phase2", 0, items=[*cv.of(0), cv.of(1)[0]])
    warnings, checks = told(cv)
    assert ("leak or mix-up", "predictions of phase2 fold 0: c1 do not belong there by the manifest") in warnings
    assert CHECKED[1] not in checks and CHECKED[0] in checks


def test_a_training_image_in_the_test_set(make_results):
    cv = make_results()
    cv.write_maps("phase3", None, items=[*cv.of(None), cv.of(1)[0]])
    assert ("leak or mix-up", "predictions of phase3 test: c1 do not belong there by the manifest") in told(cv)[0]


def test_predictions_of_other_weights(make_results):
    cv = make_results()
    cv.write_maps("phase3", 1, model="f" * 64)
    warnings, checks = told(cv)
    assert ("leak or mix-up", "predictions of phase3 fold 1: made by other weights than its model.pt") in warnings
    assert CHECKED[3] not in checks


def test_runs_of_several_manifests(make_results):
    cv = make_results()
    change(cv.folder / "phase3/fold1/model.json", manifest_sha256="e" * 64)
    assert ("leak or mix-up", "phase3 fold 1 was trained on another version of the manifest") in told(cv)[0]


def test_phase_3_from_another_fold(make_results):
    cv = make_results()
    files = read_results(cv.folder)
    files.runs[-1].params.update(phase1_sha256="1" * 64, phase2_sha256="9" * 64)
    warnings, checks = warnings_of(files, score_results(files))
    text = "phase3 fold 1 started from other weights than phase2 of fold 1"
    assert ("leak or mix-up", text) in warnings and OWN_PHASES not in checks
    files.runs[-1].params.update(phase2_sha256="2" * 64)
    assert OWN_PHASES in warnings_of(files, score_results(files))[1]


def test_any_stage_that_starts_from_another(study_of):
    files = read_results(study_of(ONE).folder)
    own = "Distill of each fold starts from that fold's own adapt."
    files.runs[-1].params.update(adapt_sha256="4" * 64)
    warnings, checks = warnings_of(files, score_results(files))
    assert checks == [*CHECKED, own] and {kind for kind, _ in warnings} == {"note"}
    files.runs[-1].params.update(adapt_sha256="9" * 64)
    warnings, checks = warnings_of(files, score_results(files))
    assert ("leak or mix-up", "distill fold 1 started from other weights than adapt of fold 1") in warnings
    assert own not in checks


def test_what_is_missing(make_results):
    cv = make_results("phase1", "phase2")
    (cv.folder / "phase2/fold1/finished.json").unlink()
    cv.write_maps("phase2", 1, items=cv.of(1)[:3])
    warnings = told(cv)[0]
    assert ("missing", "not finished: phase2 fold 1") in warnings
    assert ("missing", "phase3 has not been run") in warnings
    assert any(kind == "absent" and text.startswith("1 of 8 out-of-fold images") for kind, text in warnings)


def test_substitutions_and_items_left_out(make_results):
    cv = make_results()
    change(cv.folder / "phase1/fold0/executed_config.json", dataset="BUSI")
    (cv.folder / "phase1/fold1/excluded.json").write_text(json.dumps([{"id": "z", "reasons": ["cut short", "odd"]}]))
    files = read_results(cv.folder)
    files.runs[3].tags["substitutions"] = "2 epochs in place of 50"
    warnings, _ = warnings_of(files, score_results(files))
    assert ("substitution", "phase1 fold 0: asked for BUSI, run on PHANTOM") in warnings
    assert ("substitution", "phase2 fold 1: 2 epochs in place of 50") in warnings
    assert ("excluded", "z: cut short; odd") in warnings


@pytest.mark.parametrize("phase", ["phase2", "phase3"])
def test_some_folds_only(make_results, phase: str):
    cv = make_results()
    (cv.folder / phase / "fold1").rename(cv.folder / phase / "kept aside")
    assert ("missing", f"{phase} was run for some folds only, without 1") in told(cv)[0]


@pytest.mark.parametrize("lost", ["study/phase2/fold1/predictions/refined/predictions.json", "PHANTOM/masks/p1.png"])
def test_notes_tell_no_folder_of_the_machine(make_results, lost: str):
    cv = make_results()
    (cv.folder.parent / lost).write_bytes(b"\xff")
    warnings = told(cv)[0]
    place = lost.partition("/")[2]
    assert any(kind == "note" and place in text for kind, text in warnings)
    assert not any(str(cv.folder.parent) in text for _, text in warnings)


def test_a_manifest_and_images_that_are_gone_are_named_without_folders(make_results):
    cv = make_results()
    files = read_results(cv.folder)
    scores = score_results(files)
    cv.manifest.unlink()
    cv.root.rename(cv.root.with_name("moved"))
    notes = [warning.text for warning in warnings_of(read_results(cv.folder), scores)[0]]
    assert any("PHANTOM.json" in text for text in notes) and any("PHANTOM" in text for text in notes)
    assert not any(str(cv.folder.parent) in text for text in notes)
