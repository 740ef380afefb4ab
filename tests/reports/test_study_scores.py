"""Scores of a made study, from its maps and from its table."""

import pytest
from made_studies import EVIL, MIDDLE, SHIFTS, THREE, dice

from ultrarefiner_monai.cross_validation.scores import study_rows
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.scores_file import write_rows
from ultrarefiner_monai.reports.study_files import read_study
from ultrarefiner_monai.reports.study_scores import score_study


def test_every_image_once_a_phase_and_place(made_study):
    files = read_study(made_study.folder)
    scores = score_study(files)
    assert scores.stages() == ["phase2", "phase3"] and scores.notes == []
    assert [row["id"] for row in scores.of("phase3", "out-of-fold")] == list(SHIFTS)[:8]
    assert [row["id"] for row in scores.of("phase3", "test")] == list(SHIFTS)[8:]
    for row in scores.rows:
        coarse, refined = SHIFTS[row["id"]]
        assert (row["coarse_dice"], row["refined_dice"]) == (dice(coarse), dice(refined))
        assert row["lesion_share"] == pytest.approx(100 / 1200)
    assert [str(row) for row in study_rows(files.study, files.root)] == [
        str(row) for row in scores.rows
    ]  # NaN is not NaN


def test_calibration_adds_up_all_images(made_study):
    sums = score_study(read_study(made_study.folder)).calibration["phase2", "out-of-fold"]
    assert sums[:, 0, 0].sum(axis=1).tolist() == [8 * 1200] * 2  # pixels of both stages
    assert sums[0, 0, 0, 13] == 8 * 100  # those of the coarse squares, at 0.9 of 15 bins
    assert sums[1, 0, 2].sum() == 8 * 100  # lesion pixels


def test_phase_1_has_coarse_scores_only(make_study):
    scores = score_study(read_study(make_study("phase1").folder))
    assert scores.stages() == ["phase1"] and "refined_dice" not in scores.rows[0]
    assert len(scores.rows) == 12 and scores.calibration["phase1", "test"].shape[0] == 1


def test_three_outputs_have_columns_of_their_own(study_of):
    scores = score_study(read_study(study_of(THREE).folder))
    (test, *_), dices = scores.of("steps", "test"), ("unet_dice", "step1_dice", "step2_dice")
    assert [test[name] for name in dices] == [dice(SHIFTS["t1"][0]), dice(MIDDLE), dice(SHIFTS["t1"][1])]
    assert scores.calibration["steps", "test"].shape[0] == 3


def test_damaged_maps_are_left_out_and_told(make_study):
    study = make_study("phase1")
    (study.folder / "phase1/fold0/predictions/images/p0.nii.gz").write_bytes(b"no map")
    (study.folder / "phase1/test/predictions.json").write_bytes(b"{")
    scores = score_study(read_study(study.folder))
    assert [row["id"] for row in scores.rows] == ["a2", "b1", "b2", "c1", "c2", EVIL, "d2"]
    assert "test/predictions.json: cannot be read" in scores.notes[0]
    assert scores.notes[1].startswith("1 predictions could not be scored and are left out (")


def test_without_images_the_studys_table_is_taken(make_study):
    study = make_study()
    rows = score_study(read_study(study.folder)).rows
    study.root.rename(study.root.with_name("gone"))
    with pytest.raises(DataError, match=r"--data_root, and it has no per_image\.csv of its own"):
        score_study(read_study(study.folder))
    write_rows(study.folder / "per_image.csv", rows)
    scores = score_study(read_study(study.folder))
    assert [str(sorted(row.items())) for row in scores.rows] == [
        str(sorted((row | {"lesions": 1.0}).items())) for row in rows
    ]
    assert not scores.calibration and "without calibration and pictures" in scores.notes[0]


def test_nothing_predicted(make_study):
    study = make_study("phase1")
    for index in study.folder.rglob("predictions.json"):
        index.unlink()
    with pytest.raises(DataError, match="no fold has predicted yet"):
        score_study(read_study(study.folder))
