"""Reading a cross-validation's folder, whole or damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import ONE

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.reports.result_files import in_words, read_results
from ultrarefiner_monai.tracking.store_checks import is_here


def test_a_store_that_a_folder_names_is_asked_on_this_machine_only(made_results_folder, tmp_path, monkeypatch):
    """Whoever made the folder may want to know who reads it, with MLflow's password in the request."""
    away = "http://user:word@192.0.2.1:5000"
    folder = shutil.copytree(made_results_folder.folder, tmp_path / "study")
    for run in folder.glob("phase*/fold*"):
        config = json.loads((run / "executed_config.json").read_text())
        (run / "executed_config.json").write_text(json.dumps(config | {"tracking_uri": away}))
        (run / "mlflow_run.json").write_text('{"run_id": "0123"}')
    asked = []
    monkeypatch.setattr("ultrarefiner_monai.reports.result_files.open_store", lambda uri, **_: asked.append(uri))
    (note,) = read_results(folder).notes
    assert "its store http://192.0.2.1:5000 is another machine's" in note and not asked
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    read_results(folder)
    assert set(asked) == {away}


@pytest.mark.parametrize(
    ("uri", "here"),
    [
        ("sqlite:///mlruns.db", True),
        ("mlruns", True),
        ("http://127.0.0.1:5000", True),
        ("http://localhost", True),
        ("http://127.0.0.1.example.org", False),
        ("https://example.org", False),
        ("postgresql://example.org/db", False),
        ("http://[::1]:5000", True),
        ("databricks", False),
    ],
)
def test_stores_of_this_machine(uri, here):
    assert is_here(uri) == here


def test_a_complete_study(made_results_folder):
    files = read_results(made_results_folder.folder)
    assert [(run.stage, run.fold) for run in files.runs] == [(f"phase{p}", f) for p in (1, 2, 3) for f in (0, 1)]
    assert (
        files.cv.dataset == "PHANTOM" and files.root == made_results_folder.root and len(files.manifest.training) == 8
    )
    assert files.stages() == ["phase2", "phase3"]
    assert files.runs[0].finished and files.runs[0].settings == {"dataset": "PHANTOM", "seed": 7, "epochs": 2}
    assert list(files.runs[0].epochs) == [1, 2]  # the last line is cut short
    assert files.notes == ("MLflow's record of 6 of 6 runs cannot be read (no run was recorded)",)


def test_a_study_of_another_system_has_its_stages(study_of):
    cv = study_of(ONE)
    files = read_results(cv.folder)
    assert files.cv.system is ONE and files.stages() == ["adapt", "distill"]
    assert [(run.stage, run.fold) for run in files.runs] == [(s, f) for s in ("adapt", "distill") for f in (0, 1)]
    (cv.folder / "system.json").write_text('{"system": "elsewhere"}')
    with pytest.raises(DataError, match="unknown system 'elsewhere'"):
        read_results(cv.folder)


@pytest.mark.parametrize(
    ("stages", "word", "text"),
    [
        (["phase1"], "and", "phase 1"),
        (["phase1", "phase2"], "and", "phases 1 and 2"),
        (["phase1", "phase3"], "or", "phase 1 or 3"),
        (["adapt", "distill", "step2"], "and", "adapt, distill and step 2"),
    ],
)
def test_stages_in_words(stages: list[str], word: str, text: str):
    assert in_words(stages, word) == text


def test_keys_that_name_other_stages_are_no_settings(study_of):
    first = read_results(study_of(ONE).folder).runs[0]
    changed = replace(first, config={"seed": 7, "teacher_checkpoint": "x.pt", "coarse_predictions": "maps", "fold": 0})
    assert changed.settings == {"seed": 7, "coarse_predictions": "maps"}


def test_phase_1_alone_is_shown(make_results):
    assert read_results(make_results("phase1").folder).stages() == ["phase1"]


@pytest.mark.parametrize("content", [None, "summary.md"])
def test_a_folder_that_is_no_study(tmp_path: Path, content: str | None):
    folder = tmp_path / "none" if content is None else tmp_path
    if content:
        (tmp_path / content).write_text("")
    found = "no such folder" if content is None else "expected phase1/fold0 and the like, found summary.md"
    with pytest.raises(DataError, match=f"{found}; name the folder that ultrarefiner cv") as caught:
        read_results(folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_as_absent(make_results):
    cv = make_results()
    for name in ("model.json", "executed_config.json", "metrics.jsonl"):
        (cv.folder / "phase1/fold0" / name).write_bytes(b"\xff{")
    run = read_results(cv.folder).runs[0]
    assert (run.card, run.config, run.epochs) == ({}, {}, {})


def test_images_that_have_moved(make_results):
    cv = make_results()
    moved = cv.root.rename(cv.root.with_name("moved"))
    files = read_results(cv.folder)
    assert files.root is None and "name it with --data_root" in files.notes[0]
    assert read_results(cv.folder, data_root=str(moved)).root == moved
    with pytest.raises(DataError):
        read_results(cv.folder, data_root=str(cv.root))


def test_another_manifest_is_not_taken_for_the_studys(make_results):
    cv = make_results()
    document = json.loads(cv.manifest.read_text())
    old = cv.manifest.rename(cv.manifest.with_name("old.json"))
    cv.manifest.write_text(json.dumps(document | {"seed": 1}))
    files = read_results(cv.folder)
    assert files.manifest is None and "PHANTOM.json has changed since" in files.notes[0]
    assert read_results(cv.folder, manifest=str(old)).manifest.seed == 42
