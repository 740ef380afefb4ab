"""The complete card says what was measured, of these weights and no others, and nothing of the machine."""

import json

import pytest

from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.errors import DataError

FACTS = {"dataset": "BUSI+BUSBRA", "fold": 2, "manifest_sha256": "ab" * 32, "epoch": 4, "version": "0.1.0"}


@pytest.fixture
def run(make_model, tmp_path):
    """The folder of a phase 2 as a training leaves it: scores of two images, one of them undefined in hd95."""
    path, _ = make_model("phase2", lora_rank=2)
    card = json.loads(path.with_suffix(".json").read_text()) | FACTS | {"metric": {"refined_dice": 0.75}}
    path.with_suffix(".json").write_text(json.dumps(card))
    lines = [
        "id,patient,class,coarse_dice,refined_dice,refined_hd95",
        "a,1,benign,0.5,0.7,10",
        "b,2,benign,0.25,0.8,nan",
    ]
    (path.parent / "per_image.csv").write_text("\n".join(lines) + "\n")
    weights, data = str(tmp_path / "weights" / "medsam.pth"), str(tmp_path / "data" / "BUSI")
    config = {"seed": 7, "amp": False, "sam_checkpoint": weights, "data_root": data}
    (path.parent / "executed_config.json").write_text(json.dumps(config))
    return path


def test_everything_that_decides_a_prediction_is_told(run):
    card = describe(run)
    original = json.loads(run.with_suffix(".json").read_text())
    assert {key: card[key] for key in original} == original
    assert card["prediction"]["image_size"] == 64 and card["network"]["refiner"]["lora_rank"] == 2
    assert card["prediction"]["amp"] is False and card["prediction"]["threshold"] == 0.5
    assert card["prediction"]["channels"] == ["coarse", "refined"]
    assert [part["name"] for part in card["data"]] == ["BUSI", "BUSBRA"]
    assert all(part["licence"] and part["reference"] for part in card["data"])


def test_scores_are_means_where_defined_with_the_number_of_images(run):
    (run.parent / "test").mkdir()
    (run.parent / "test" / "per_image.csv").write_text(
        "id,patient,class,coarse_dice,refined_dice\nx,1,benign,0.25,0.5\n"
    )
    metrics = describe(run)["metrics"]
    assert metrics["validation"]["images"] == 2
    assert metrics["validation"]["means"] == pytest.approx(
        {"coarse_dice": 0.375, "refined_dice": 0.75, "refined_hd95": 10}
    )
    assert metrics["validation"]["n"] == {"coarse_dice": 2, "refined_dice": 2, "refined_hd95": 1}
    assert metrics["test"]["means"] == {"coarse_dice": 0.25, "refined_dice": 0.5}
    assert (metrics["test"]["images"], metrics["test"]["n"]) == (1, {"coarse_dice": 1, "refined_dice": 1})


def test_the_means_of_a_metric_are_over_the_same_images(run):
    (run.parent / "test").mkdir()
    lines = ["id,patient,class,coarse_dice,refined_dice,coarse_hd95,refined_hd95"]
    lines += ["x,1,benign,0.5,0.5,8,4", "y,2,benign,0.5,0,30,nan", "z,3,benign,0,0.5,nan,50"]
    (run.parent / "test" / "per_image.csv").write_text("\n".join(lines) + "\n")
    test = describe(run)["metrics"]["test"]
    assert test["means"] == pytest.approx(
        {"coarse_dice": 1 / 3, "refined_dice": 1 / 3, "coarse_hd95": 8, "refined_hd95": 4}
    )
    assert test["n"] == {"coarse_dice": 3, "refined_dice": 3, "coarse_hd95": 1, "refined_hd95": 1}
    assert "| coarse_hd95 | 8.0000 (n 1) |" in to_markdown(describe(run))


def test_scores_of_a_later_epoch_are_not_the_models(run):
    table = run.parent / "per_image.csv"
    table.write_text(table.read_text().replace("0.8", "0.6"))
    assert describe(run)["metrics"] == {"validation": {"images": None, "means": {"refined_dice": 0.75}}}


def test_the_page_warns_and_names_no_folder_of_the_machine(run, tmp_path):
    card = describe(run)
    page = to_markdown(card)
    assert "Not for clinical use." in page.splitlines()[2]
    assert "validation (2 images" in page and "| refined_dice | 0.7500 (n 2) |" in page
    for told in ("ab" * 32, "medsam.pth", "10.5281/zenodo.8231412", "BUSI", "Apache-2.0"):
        assert told in page
    told = json.loads((run.parent / "executed_config.json").read_text())
    assert str(tmp_path) in told["sam_checkpoint"] and str(tmp_path) in told["data_root"]
    assert card["training"]["sam_checkpoint"] == "medsam.pth"
    assert not [text for text in (page, json.dumps(card)) if str(tmp_path) in text or tmp_path.name in text]


def test_a_model_without_a_run_beside_it_is_described_from_its_card(make_model):
    path, _ = make_model("phase1")
    card = describe(path)
    assert card["metrics"] == {} and card["training"] == {} and card["data"] == []
    assert "None were measured." in to_markdown(card)
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"model\.json: cannot be read"):
        describe(path)


def test_scores_of_classes_are_told_with_the_images_that_they_are_over(make_model):
    path, _ = make_model("automedsam")
    (path.parent / "test").mkdir()
    head = "id,patient,class,mask_dice,mask_dice_benign,mask_probability_benign,mask_dice_malignant,mask_probability_malignant"
    lines = [f"{head},mask_class"]
    lines += ["a,1,benign,0.5,0.5,0.9,nan,0.1,benign", "b,2,malignant,0.7,0,0.8,0.2,0.2,benign"]
    lines += ["c,3,malignant,0.6,nan,0.3,0.6,0.7,malignant", "d,4,normal,0.2,nan,0.4,nan,0.6,malignant"]
    (path.parent / "test" / "per_image.csv").write_text("\n".join(lines) + "\n")
    card = describe(path)
    test = card["metrics"]["test"]
    assert test["means"] == pytest.approx(
        {
            **{"mask_dice": 0.5, "mask_accuracy": 2 / 3, "mask_balanced_accuracy": 0.75, "mask_auc": 1.0},
            **{"mask_dice_benign": 0.25, "mask_dice_malignant": 0.4},
        }
    )
    assert test["n"] == {
        **{"mask_dice": 4, "mask_accuracy": 3, "mask_balanced_accuracy": 3, "mask_auc": 3},
        **{"mask_dice_benign": 2, "mask_dice_malignant": 2},
    }
    assert "| mask_balanced_accuracy | 0.7500 (n 3) |" in to_markdown(card)


def test_channels_and_limits_are_those_of_the_classes(make_model):
    card = describe(make_model("automedsam")[0])
    assert card["prediction"]["channels"] == ["background", "benign", "malignant"]
    assert card["prediction"]["output"].startswith("logits; softmax over the channels, ")
    assert "What it calls benign or malignant is no diagnosis" in to_markdown(card)
    assert not [line for line in card["limits"] if "not whether it is malignant" in line]
    plain = describe(make_model("automedsam", classes="lesion")[0])
    assert plain["prediction"]["channels"] == ["mask"] and plain["prediction"]["output"].startswith("logits; sigmoid, ")
    assert [line for line in plain["limits"] if "not whether it is malignant" in line]


def test_a_complete_card_stays_as_it_is(run):
    complete = describe(run)
    run.with_suffix(".json").write_text(json.dumps(complete))
    (run.parent / "per_image.csv").unlink()
    assert describe(run) == complete
