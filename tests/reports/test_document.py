"""The document behind a report."""

import math

import pytest
from made_studies import SHIFTS

from ultrarefiner_monai.handlers.comparison import write_rows
from ultrarefiner_monai.reports.document import findings
from ultrarefiner_monai.reports.statistics import holm, signed_rank
from ultrarefiner_monai.reports.study_files import read_study
from ultrarefiner_monai.reports.study_scores import score_study
from ultrarefiner_monai.reports.tables import metric_of


@pytest.fixture(scope="module")
def document(made_study):
    files = read_study(made_study.folder)
    return findings(files, score_study(files))


def test_results_by_hand(document):
    found = {(part["phase"], part["place"]): part for part in document["results"]}
    assert list(found) == [(phase, place) for phase in ("phase2", "phase3") for place in ("out-of-fold", "test")]
    test = metric_of(found["phase3", "test"], "dice")  # shifts (3, 1), (1, 2), (2, 1), (4, 3)
    assert test["coarse"]["value"] == pytest.approx(0.75) and test["refined"]["value"] == pytest.approx(0.825)
    assert (test["delta"]["images"], test["delta"]["patients"]) == (4, 2)
    assert found["phase3", "test"]["changes"] == {"worse_share": 0.25, "better_share": 0.75}


def test_p_values_are_corrected_over_all_tests_of_the_report(document):
    tested = [line for part in document["results"] for line in part["metrics"] if "p" in line] + document["between"]
    assert document["method"]["tests"] == sum(not math.isnan(line["p"]) for line in tested) == 4 * 9 + 6
    assert [line["p_holm"] for line in tested] == pytest.approx(holm([line["p"] for line in tested]))
    deltas = [(SHIFTS[name][0] - SHIFTS[name][1]) / 10 for name in list(SHIFTS)[:8]]
    assert tested[0]["p"] == pytest.approx(signed_rank(deltas, list("aabbccdd")))


def test_between_phases(document):
    lines = {(line["second"], line["first"], line["place"]): line["delta"]["value"] for line in document["between"]}
    assert lines["phase3 refined", "phase2 refined", "test"] == 0
    assert lines["phase3 refined", "phase2 coarse", "test"] == pytest.approx(0.075)


def test_groups_calibration_and_worse(document):
    names = {(group["by"], group["name"]) for group in document["subgroups"]}
    assert names == {("class", "benign"), ("class", "malignant"), ("lesion size", "small")}  # all lesions are alike
    assert len(document["calibration"]) == 4 and document["calibration"][0]["images"] == 8
    assert document["worse"]["images"] == 4 and document["worse"]["rows"][0]["id"] == "d2"
    assert [line["fold"] for line in document["folds"]["phase3"]] == [0, 1, "mean", "sd"]


def test_false_alarms_on_normals(make_study):
    study = make_study("phase1")
    for fold, alarm in ((0, 1.0), (1, 0.0)):  # the same two normals, held out with the test set
        rows = [
            {"id": name, "patient": name, "class": "normal", "coarse_dice": math.nan}
            | {"coarse_false_positive": alarm, "coarse_false_positive_area": alarm / 10}
            for name in ("n1", "n2")
        ]
        write_rows(study.folder / f"phase1/fold{fold}/normal/per_image.csv", rows)
    files = read_study(study.folder)
    found = findings(files, score_study(files))
    (line,) = found["normals"]
    assert (line["stage"], line["images"], line["predictions"]) == ("coarse", 2, 4)
    assert (line["rate"]["value"], line["area"]["value"]) == (0.5, 0.05)
    assert found["worse"] is None and found["between"] == []
