"""The index of a prediction folder: written whole, read strictly."""

import json

import pytest
from made_predictions import HASH, MODEL, item, predict

from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.errors import DataError


def test_the_index_returns_and_is_plain_json(tmp_path):
    index = predict(tmp_path, [item(2, 0), item(1, 0)], 0)
    index.items[0]["dice"] = None
    index.write(tmp_path)
    again = PredictionIndex.load(tmp_path)
    assert [entry["id"] for entry in again.items] == ["bus_1", "bus_2"]
    assert (again.fold, again.manifest_sha256, again.model_sha256) == (0, HASH, MODEL)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["items"][1] == {"id": "bus_2", "file": "Images/bus_2.nii.gz", "dice": None, "width": 8, "height": 5}


def test_prompts_are_written_where_there_are_some(tmp_path):
    predict(tmp_path / "asked", [item(1, 0)], 0, prompts="truth_box")
    predict(tmp_path / "by_itself", [item(1, 0)], 0)
    assert PredictionIndex.load(tmp_path / "asked").prompts == "truth_box"
    assert "prompts" not in json.loads((tmp_path / "by_itself" / "predictions.json").read_text())


def test_an_undefined_dice_becomes_null(tmp_path):
    index = PredictionIndex("BUSBRA", "phase1", 0, "val", HASH, MODEL)
    index.add(item(1, 0), float("nan"))
    index.write(tmp_path)
    assert "NaN" not in (tmp_path / "predictions.json").read_text()
    assert PredictionIndex.load(tmp_path).items[0]["dice"] is None


def test_an_index_refuses_images_that_would_share_a_map(tmp_path):
    index = PredictionIndex("BUSBRA", "phase1", 0, "val", HASH, MODEL)
    index.add(item(1, 0))
    index.add({**item(2, 0), "image": "Images/bus_1.jpg"})
    with pytest.raises(DataError, match=r"same file: Images/bus_1\.nii\.gz"):
        index.write(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{}", '{"schema": "ultrarefiner_monai/predictions/1"}', '{"schema": 3, "dataset": "x"}', "\ud800"],
)
def test_a_broken_index_is_a_one_line_error(tmp_path, text):
    (tmp_path / "predictions.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"predictions\.json"):
        PredictionIndex.load(tmp_path)


@pytest.mark.parametrize("path", ["../secret.nii.gz", "/etc/secret.nii.gz", "a\\b.nii.gz"])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path, path):
    index = predict(tmp_path, [item(1, 0)], 0)
    index.items[0]["file"] = path
    index.write(tmp_path)
    with pytest.raises(DataError, match="paths inside the folder"):
        PredictionIndex.load(tmp_path)


def test_a_missing_index_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="missing; run the inference of the stage that makes these maps"):
        PredictionIndex.load(tmp_path)


def test_an_index_of_an_earlier_version_has_the_number_of_a_phase(tmp_path):
    predict(tmp_path, [item(1, 0)], 0)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content.pop("stage") == "phase1"
    (tmp_path / "predictions.json").write_text(json.dumps(content | {"phase": 2}))
    assert PredictionIndex.load(tmp_path).stage == "phase2"
