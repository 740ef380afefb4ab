"""A stage that is asked about lesions: its evaluations by prompt source, and requests that ask about nothing."""

import json
from shutil import copytree

import pytest
import torch

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.metrics.scores_file import read_rows
from ultrarefiner_monai.networks.sam2 import build_sam2
from ultrarefiner_monai.networks.sam2.official_names import official_state
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.keys import configuration


@pytest.fixture
def keys(prompted_cv, small_release):
    """Keys of an evaluation of the first fold's model."""
    settings = {**prompted_cv.settings["adapt"], **small_release, "output_dir": str(prompted_cv.folder("adapt", 0))}
    return settings | {"tracking_uri": prompted_cv.shared["tracking_uri"], "overwrite": True}


def evaluate(keys, **asked):
    done = run_bundle("uniultra", "evaluate", **keys, **asked)
    return done.parser.get_parsed_content("validate#evaluator").state.metrics


def test_each_prompt_source_has_scores_of_its_own(keys, prompted_cv, small_cv):
    """Another stage's maps of several outputs are those of its last one."""
    folder = prompted_cv.folder("adapt", 0)
    metrics = evaluate(keys, prompt_source="truth_box")
    rows = read_rows(folder / "test_truth_box" / "per_image.csv")
    assert {row["prompts"] for row in rows} == {"truth_box"} and all(0.5 < row["ellipse"] < 1 for row in rows)
    assert metrics["ellipse"] == pytest.approx(sum(row["ellipse"] for row in rows) / len(rows))
    automatic = evaluate(keys, prompt_source="auto", prompt_maps=str(small_cv.out / "phase3"))
    rows = read_rows(folder / "test_auto" / "per_image.csv")
    assert {row["prompts"] for row in rows} == {"auto"} and "ellipse" not in automatic


def test_maps_of_other_prompts_are_replaced_only_when_asked(keys, prompted_cv, tmp_path):
    """The folder is the same for every prompt source; it once took maps of true boxes for those of a model's own."""
    known = configuration(find_stage("adapt")[1], "inference").keys() - {"dataset", "overwrite"}
    asked = {key: value for key, value in keys.items() if key in known} | {"dataset_name": keys["dataset"]}
    asked |= {"predictions_dir": str(tmp_path), "split": "val"}
    run_bundle("uniultra", "inference", **asked, prompt_source="truth_box")
    with pytest.raises(SystemExit, match="holds the maps of prompts 'truth_box'; --overwrite true replaces them"):
        run_bundle("uniultra", "inference", **asked, prompt_source="truth_point")
    run_bundle("uniultra", "inference", **asked, prompt_source="truth_point", overwrite=True)
    assert PredictionIndex.load(tmp_path).prompts == "truth_point"


def test_a_training_does_not_go_on_with_other_prompts(keys, prompted_cv, tmp_path, capsys):
    """The best epoch would be chosen among scores of unlike prompts; other keys that decide what is learnt are told."""
    begun = prompted_cv.folder("adapt", 0)
    out = copytree(begun, tmp_path / "begun")
    keys = {key: value for key, value in keys.items() if key != "overwrite"} | {"output_dir": str(out), "resume": True}
    with pytest.raises(SystemExit, match="prompt_source = truth_box_10, expected truth_point: the best epoch"):
        run_bundle("uniultra", "train", **keys, prompt_source="truth_point")
    run_bundle("uniultra", "train", **keys, prompt_mix=[1.0, 0.0, 0.0])
    assert "made with prompt_mix = [0.6, 0.2, 0.2], going on with [1.0, 0.0, 0.0]" in "".join(capsys.readouterr())
    run_bundle("uniultra", "train", **keys, prompt_mix=[1.0, 0.0, 0.0])
    assert "going on with [" not in "".join(capsys.readouterr())


def test_moved_boxes_are_the_same_whatever_the_batch(keys, prompted_cv):
    scores = [
        [row["mask_dice"] for row in read_rows(prompted_cv.folder("adapt", 0) / "val_truth_box_10" / "per_image.csv")]
        for size in (1, 4)
        if evaluate({**keys, "batch_size": size}, split="val")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.02, nan_ok=True)  # bf16


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt_source": "auto"}, "'auto' asks about the lesions of maps, --prompt_source auto --prompt_maps FOLDER"),
        ({"prompt_maps": "maps"}, "prompt_source truth_box_10 with prompt_maps maps: 'auto' asks"),
        ({"prompt_source": "truth"}, "prompt_source: expected"),
        ({"prompt_source": "auto", "prompt_maps": "nowhere"}, "nowhere"),
        ({"image_size": 66, "prompt_source": "truth_box"}, "image_size 66: expected a positive multiple of 4"),
        ({"variant": "tiny", "image_size": 48}, "image_size 48: expected a positive multiple of 32"),
    ],
)
def test_a_request_that_asks_about_nothing_is_refused_in_one_line(asked, message, keys):
    with pytest.raises(SystemExit, match=message):
        evaluate({**keys, **asked})


def test_single_images_need_the_verb_predict(keys, picture):
    asked = {"images": str(picture), "variant": "lite_medsam", "image_size": 64}
    with pytest.raises(
        SystemExit, match="of single images use 'ultrarefiner predict' with --boxes FILE, --points FILE"
    ):
        run_bundle("uniultra", "inference", checkpoint=f"{keys['output_dir']}/model.pt", **asked)


def test_maps_that_were_asked_for_with_the_truth_do_not_pass_as_automatic(keys, prompted_cv):
    with pytest.raises(SystemExit, match="maps of adapt, which was itself asked about lesions"):
        evaluate(keys, prompt_source="auto", prompt_maps=str(prompted_cv.out / "adapt"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split": "normal"}, "split 'normal': adapt is asked about lesions, and these images have none"),
        ({"split": "external", "prompt_source": "auto", "prompt_maps": "maps"}, "split 'external' with prompt_maps"),
        ({"adapter_ratio": 0.001}, r"adapter_ratio 0.001: expected 0, or at least 0.0625"),
        ({"prompt_mix": [0.5, 0.5, 0.5]}, r"prompt_mix \[0.5, 0.5, 0.5\]: expected three chances"),
        ({"prompt_mix": {"box": 1}}, "prompt_mix .*: expected three chances"),
    ],
)
def test_settings_that_cannot_be_end_in_one_line(asked, message, keys):
    with pytest.raises(SystemExit, match=message):
        evaluate({**keys, **asked})


@pytest.mark.slow
def test_a_model_of_sam_2_0_is_evaluated_and_predicted_with_as_such(small_release, tmp_path):
    """Its version is in no key: the weights tell it in training, the model's card afterwards."""
    sam = build_sam2("mini", 64, version="2.0")
    torch.save({"model": official_state(sam.network)}, tmp_path / "sam2.pt")
    places = {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path}/m.db", "log_model": False}
    keys = {**small_release, **places, "variant": "mini", "image_size": 64, "batch_size": 4}
    run_bundle("uniultra", "train", **keys, epochs=1, sam_checkpoint=str(tmp_path / "sam2.pt"))
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["network"]["sam"]["version"] == "2.0"
    run_bundle("uniultra", "evaluate", **keys)
    known = configuration(find_stage("adapt")[1], "inference").keys() - {"dataset"}
    asked = {key: value for key, value in keys.items() if key in known} | {"dataset_name": small_release["dataset"]}
    run_bundle("uniultra", "inference", **asked)
    assert (tmp_path / "out" / "predictions" / "predictions.json").is_file()


def test_a_students_decoder_learns_at_a_rate_of_its_own(prompted_cv, small_release, tmp_path):
    """At the encoder's it lost in its first epoch what it came with."""
    keys = {
        **prompted_cv.settings["distill"],
        **small_release,
        "epochs": 2,
        "finetune_epochs": 1,
        "output_dir": str(tmp_path),
    }
    keys |= {"teacher_checkpoint": str(prompted_cv.folder("adapt", 0) / "model.pt"), "log_model": False}
    keys |= {"tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}", "learning_rate": 1e-3, "decoder_rate": 1e-5}
    done = run_bundle("uniultra", "train", "distill", **keys)
    groups = done.parser.get_parsed_content("optimizer").param_groups
    assert {group["name"]: group["initial_lr"] for group in groups} == {"encoder": 1e-3, "decoder": 1e-5}
    sam = done.parser.get_parsed_content("network_def").sam
    inside = set(sam.image_encoder.parameters())
    assert inside.issuperset(groups[0]["params"]) and inside.isdisjoint(groups[1]["params"])
    assert all(group["params"] for group in groups)
    assert groups[1]["lr"] == pytest.approx(1e-5 * 0.98)  # one epoch after it began to learn
