"""Scores of a made cross-validation, from its maps and from its table."""

import pytest
from made_results import EVIL, MIDDLE, SHIFTS, THREE, dice

import ultrarefiner_monai.bundle.preflight.data as preflight
import ultrarefiner_monai.cross_validation.scores as of_results
from ultrarefiner_monai.cross_validation.scores import score
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.scores_file import write_rows
from ultrarefiner_monai.reports.result_files import read_results
from ultrarefiner_monai.reports.result_scores import score_results


def test_every_image_once_a_phase_and_place(made_results_folder):
    files = read_results(made_results_folder.folder)
    scores = score_results(files)
    assert scores.stages() == ["phase2", "phase3"] and scores.notes == []
    assert [row["id"] for row in scores.of("phase3", "out-of-fold")] == list(SHIFTS)[:8]
    assert [row["id"] for row in scores.of("phase3", "test")] == list(SHIFTS)[8:]
    for row in scores.rows:
        coarse, refined = SHIFTS[row["id"]]
        assert (row["coarse_dice"], row["refined_dice"]) == (dice(coarse), dice(refined))
        assert row["lesion_share"] == pytest.approx(100 / 1200)
    assert [str(row) for row in score(files.cv, files.root).images] == [
        str(row) for row in scores.rows
    ]  # NaN is not NaN


def test_calibration_adds_up_all_images(made_results_folder):
    sums = score_results(read_results(made_results_folder.folder)).calibration["phase2", "out-of-fold"]
    assert sums[:, 0, 0].sum(axis=1).tolist() == [8 * 1200] * 2  # pixels of both stages
    assert sums[0, 0, 0, 13] == 8 * 100  # those of the coarse squares, at 0.9 of 15 bins
    assert sums[1, 0, 2].sum() == 8 * 100  # lesion pixels


def test_phase_1_has_coarse_scores_only(make_results):
    scores = score_results(read_results(make_results("phase1").folder))
    assert scores.stages() == ["phase1"] and "refined_dice" not in scores.rows[0]
    assert len(scores.rows) == 12 and scores.calibration["phase1", "test"].shape[0] == 1


def test_three_outputs_have_columns_of_their_own(study_of):
    scores = score_results(read_results(study_of(THREE).folder))
    (test, *_), dices = scores.of("steps", "test"), ("unet_dice", "step1_dice", "step2_dice")
    assert [test[name] for name in dices] == [dice(SHIFTS["t1"][0]), dice(MIDDLE), dice(SHIFTS["t1"][1])]
    assert scores.calibration["steps", "test"].shape[0] == 3


def test_damaged_maps_are_left_out_and_told(make_results):
    cv = make_results("phase1")
    (cv.folder / "phase1/fold0/predictions/images/p0.nii.gz").write_bytes(b"no map")
    (cv.folder / "phase1/test/predictions.json").write_bytes(b"{")
    scores = score_results(read_results(cv.folder))
    assert [row["id"] for row in scores.rows] == ["a2", "b1", "b2", "c1", "c2", EVIL, "d2"]
    assert "test/predictions.json: cannot be read" in scores.notes[0]
    assert scores.notes[1].startswith("1 predictions could not be scored and are left out (")


def test_without_images_the_studys_table_is_taken(make_results):
    cv = make_results()
    rows = score_results(read_results(cv.folder)).rows
    cv.root.rename(cv.root.with_name("gone"))
    with pytest.raises(DataError, match=r"--data_root, and it has no per_image\.csv of its own"):
        score_results(read_results(cv.folder))
    write_rows(cv.folder / "per_image.csv", rows)
    scores = score_results(read_results(cv.folder))
    assert [str(sorted(row.items())) for row in scores.rows] == [
        str(sorted((row | {"lesions": 1.0}).items())) for row in rows
    ]
    assert not scores.calibration and "without calibration and pictures" in scores.notes[0]


def test_nothing_predicted(make_results):
    cv = make_results("phase1")
    for index in cv.folder.rglob("predictions.json"):
        index.unlink()
    with pytest.raises(DataError, match="no fold has predicted yet"):
        score_results(read_results(cv.folder))


def test_each_map_is_read_once_and_the_manifest_once_for_all_folds(made_results_folder, monkeypatch):
    files, read = read_results(made_results_folder.folder), []
    monkeypatch.setattr(of_results, "read_map", lambda path: read.append(path) or read_map(path))
    monkeypatch.setattr(preflight, "load_manifest", lambda path: read.append(path) or load_manifest(path))
    score_results(files)
    maps = sorted(made_results_folder.folder.glob("phase[23]/*/**/*.nii.gz"))
    assert len(maps) == 2 * 2 * len(SHIFTS)  # stages, outputs, images
    assert sorted(map(str, read)) == sorted(map(str, [*maps, made_results_folder.manifest]))
