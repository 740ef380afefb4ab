"""Reading a study's folder, whole or damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_studies import ONE

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.reports.study_files import in_words, read_study


def test_a_complete_study(made_study):
    files = read_study(made_study.folder)
    assert [(run.stage, run.fold) for run in files.runs] == [(f"phase{p}", f) for p in (1, 2, 3) for f in (0, 1)]
    assert files.study.dataset == "PHANTOM" and files.root == made_study.root and len(files.manifest.training) == 8
    assert files.stages() == ["phase2", "phase3"]
    assert files.runs[0].finished and files.runs[0].settings == {"dataset": "PHANTOM", "seed": 7, "epochs": 2}
    assert list(files.runs[0].epochs) == [1, 2]  # the last line is cut short
    assert files.notes == ("MLflow's record of 6 of 6 runs cannot be read (no run was recorded)",)


def test_a_study_of_another_system_has_its_stages(study_of):
    study = study_of(ONE)
    files = read_study(study.folder)
    assert files.study.system is ONE and files.stages() == ["adapt", "distill"]
    assert [(run.stage, run.fold) for run in files.runs] == [(s, f) for s in ("adapt", "distill") for f in (0, 1)]
    (study.folder / "system.json").write_text('{"system": "elsewhere"}')
    with pytest.raises(DataError, match="unknown system 'elsewhere'"):
        read_study(study.folder)


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
    first = read_study(study_of(ONE).folder).runs[0]
    changed = replace(first, config={"seed": 7, "teacher_checkpoint": "x.pt", "coarse_predictions": "maps", "fold": 0})
    assert changed.settings == {"seed": 7, "coarse_predictions": "maps"}


def test_phase_1_alone_is_shown(make_study):
    assert read_study(make_study("phase1").folder).stages() == ["phase1"]


@pytest.mark.parametrize("content", [None, "summary.md"])
def test_a_folder_that_is_no_study(tmp_path: Path, content: str | None):
    folder = tmp_path / "none" if content is None else tmp_path
    if content:
        (tmp_path / content).write_text("")
    found = "no such folder" if content is None else "expected phase1/fold0 and the like, found summary.md"
    with pytest.raises(DataError, match=f"{found}; name the folder that ultrarefiner cv") as caught:
        read_study(folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_as_absent(make_study):
    study = make_study()
    for name in ("model.json", "executed_config.json", "metrics.jsonl"):
        (study.folder / "phase1/fold0" / name).write_bytes(b"\xff{")
    run = read_study(study.folder).runs[0]
    assert (run.card, run.config, run.epochs) == ({}, {}, {})


def test_images_that_have_moved(make_study):
    study = make_study()
    moved = study.root.rename(study.root.with_name("moved"))
    files = read_study(study.folder)
    assert files.root is None and "name it with --data_root" in files.notes[0]
    assert read_study(study.folder, data_root=str(moved)).root == moved
    with pytest.raises(DataError):
        read_study(study.folder, data_root=str(study.root))


def test_another_manifest_is_not_taken_for_the_studys(make_study):
    study = make_study()
    document = json.loads(study.manifest.read_text())
    old = study.manifest.rename(study.manifest.with_name("old.json"))
    study.manifest.write_text(json.dumps(document | {"seed": 1}))
    files = read_study(study.folder)
    assert files.manifest is None and "PHANTOM.json has changed since" in files.notes[0]
    assert read_study(study.folder, manifest=str(old)).manifest.seed == 42
