"""Every configuration of every bundle: complete, checked, and run."""

import json
import socket
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, verify_net_in_out
from PIL import Image

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems import all_stages, find_stage
from ultrarefiner_monai.systems.keys import configuration

STAGES = tuple(all_stages())
KINDS = (("train",), ("train", "evaluate"), ("train", "multi_gpu_train"), ("inference",))
FORMAT = Path(__file__).parent / "network_data_format.schema.json"


def configs_of(stage):
    """The folder of a stage's configurations, which some stages share."""
    return BUNDLES / find_stage(stage)[1].bundle / "configs"


def whole(stage, names):
    """The names, `train` as all files that train the stage."""
    return [part for name in names for part in (find_stage(stage)[1].configs if name == "train" else (name,))]


def workflow(phase, names, **overrides):
    files = [str(configs_of(phase) / f"{name}.json") for name in whole(phase, names)]
    kind, stage = ("infer", {"plan#stage": phase}) if names == ("inference",) else ("train", {})
    return ConfigWorkflow(files, workflow_type=kind, **stage, **overrides)


def one_process_group():
    """What torchrun tells the only process of a group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("names", KINDS, ids="+".join)
def test_no_required_property_is_missing(stage, names, cv_of, small_release, monkeypatch, tmp_path):
    """Properties are resolved for the check: every network, loader and engine of the configuration is built."""
    files = [configs_of(stage) / f"{name}.json" for name in whole(stage, names)]
    known = set().union(*(json.loads(file.read_text()) for file in files))
    cv, found = cv_of(stage), find_stage(stage)[1]
    trained = {"evaluate", "inference"} & set(names)
    keys = cv.settings[stage] | small_release | {"output_dir": str(cv.folder(stage, 0) if trained else tmp_path)}
    keys |= {"dataset_name": "PHANTOM"} if names == ("inference",) else {"dataset": "PHANTOM"}
    keys |= {key: str(cv.out / name) for key, name in found.feeds.items()}
    if not trained:
        keys |= {key: str(cv.folder(name, 0) / "model.pt") for key, name in found.starts.items()}
    if names == ("inference",):
        del keys["dataset"]
    run = workflow(stage, names, **{key: value for key, value in keys.items() if key in known})
    for name, value in one_process_group().items():
        monkeypatch.setenv(name, value)
    run.initialize()
    assert run.check_properties() == []
    if "multi_gpu_train" in names:
        run.finalize()


@pytest.mark.parametrize("stage", STAGES)
def test_metadata_follows_the_format_and_its_own_version(stage):
    metadata = json.loads((configs_of(stage) / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["version"] in metadata["changelog"]
    jsonschema.validate(metadata["network_data_format"], json.loads(FORMAT.read_text(encoding="utf-8")))
    assert (configs_of(stage).parent / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")


@pytest.mark.parametrize("stage", STAGES)
def test_network_keeps_what_the_metadata_say(stage, tmp_path):
    """At a small size: MONAI's own check feeds one picture and compares shape and type of the output."""
    configs = configs_of(stage)
    metadata = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
    for part in ("inputs", "outputs"):
        next(iter(metadata["network_data_format"][part].values()))["spatial_shape"] = [64, 64]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    keys = {"variant": "tiny", "image_size": 64, "images": str(tmp_path), "plan#stage": stage}
    if stage == "phase3":
        keys |= {"coarse_variant": "tiny", "coarse_size": 64}
    verify_net_in_out(
        "network_def", meta_file=str(tmp_path / "metadata.json"), config_file=str(configs / "inference.json"), **keys
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 1}, "unknown configuration key 'epoch': did you mean 'epochs'?"),
        ({"resume": "maybe"}, "resume: expected true or false, found 'maybe'"),
        ({"epochs": "many"}, "epochs: expected a whole number above 0, found 'many'"),
        ({"normal_share": 1}, "normal_share: expected a number of at least 0 and below 1, found 1"),
        ({"data_root": {"BUSI": "data"}}, "data_root: expected a path, found {'BUSI': 'data'}"),
        ({"loss": "dice"}, "loss: a component of this configuration, found 'dice'"),
        (
            {"epochs": 4, "val_interval": 3},
            "val_interval 3 does not divide epochs 4: the last epoch would not be validated",
        ),
        ({"split": "test"}, "split 'test' is for evaluate.json; a training is validated on 'val', its own fold"),
        ({"image_size": 100}, "image_size 100: expected a positive multiple of 16"),
        (
            {"dataset": "BUSBAR"},
            "no manifest data_manifests/BUSBAR.json: build it with `ultrarefiner manifests build BUSBAR --root ...`"
            " (did you mean 'BUSBRA'?)",
        ),
        ({"fold": 9}, "fold 9 of BUSBRA: expected 0 to 4"),
        ({"data_root": "nowhere"}, "data root nowhere: no such folder; --data_root names the release of BUSBRA"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_ends_in_one_line_and_writes_nothing(overrides, message, tmp_path):
    run = workflow(
        "phase1", ("train",), output_dir=str(tmp_path / "out"), tracking_uri=f"sqlite:///{tmp_path}/m.db", **overrides
    )
    with pytest.raises(SystemExit) as caught:
        run.initialize()
    assert caught.value.code == message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("phase", ["phase2", "phase3"])
def test_normals_are_for_phase1_alone(phase):
    with pytest.raises(SystemExit, match="unknown configuration key 'normal_share'"):
        workflow(phase, ("train",), normal_share=0.2).initialize()


def test_inference_says_which_key_names_the_data_set():
    with pytest.raises(SystemExit, match=r"dataset: a component .* did you mean 'dataset_name'"):
        workflow("phase1", ("inference",), dataset="BUSI").initialize()


@pytest.mark.parametrize("key", ["fusion", "weighting"])
def test_unknown_choice_lists_the_choices(key):
    with pytest.raises(SystemExit, match=rf"{key}: expected one of .*, found 'best'"):
        workflow("phase3", ("train",), **{key: "best"}).initialize()


@pytest.mark.parametrize("phase", ["phase2", "phase3"])
def test_unknown_sam_variant_is_named(phase, small_release, tmp_path):
    with pytest.raises(SystemExit, match=r"variant: expected one of vit_b.*, found 'vit_x'"):
        workflow(phase, ("train",), variant="vit_x", output_dir=str(tmp_path / "out"), **small_release).initialize()


def test_unreadable_picture_stops_the_run_before_anything_is_written(small_release, tmp_path):
    import shutil

    root = tmp_path / "PHANTOM"
    shutil.copytree(small_release["data_root"], root)
    next(iter(sorted((root / "images").glob("*.png")))).write_bytes(b"broken")
    keys = small_release | {"data_root": str(root), "output_dir": str(tmp_path / "out")}
    with pytest.raises(SystemExit, match=r"p0001_1.*see 'ultrarefiner manifests verify PHANTOM'"):
        workflow("phase1", ("train",), variant="tiny", image_size=64, **keys).initialize()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("wrong", "said"), [({"fold": 1}, "fold"), ({"image_size": 96}, "coarse.size")])
def test_checkpoint_of_another_fold_or_network_is_refused(small_cv, small_release, wrong, said):
    checkpoint = str(small_cv.folder("phase1", 0) / "model.pt")
    keys = {"variant": "tiny", "image_size": 64, "checkpoint": checkpoint, **small_release, **wrong}
    with pytest.raises(SystemExit, match=said):
        run_bundle("phase1", "evaluate", tracking_uri="sqlite:///unused.db", **keys)


def test_checkpoint_of_another_phase_is_refused(small_cv, small_release):
    keys = (
        small_cv.settings["phase3"]
        | small_release
        | {"phase1_checkpoint": str(small_cv.folder("phase2", 0) / "model.pt")}
    )
    keys["phase2_checkpoint"] = str(small_cv.folder("phase2", 0) / "model.pt")
    with pytest.raises(SystemExit, match=r"made with stage = 'phase2', expected 'phase1'"):
        workflow("phase3", ("train",), **keys).initialize()


def test_phase2_refuses_predictions_that_do_not_cover_its_items(small_cv, small_release, tmp_path):
    import shutil

    shutil.copytree(small_cv.out / "phase1", tmp_path / "phase1")
    shutil.rmtree(tmp_path / "phase1" / "fold1" / "predictions")
    keys = {"variant": "tiny", "image_size": 64, "coarse_predictions": str(tmp_path / "phase1"), **small_release}
    run = workflow("phase2", ("train",), output_dir=str(tmp_path / "out"), **keys)
    with pytest.raises(SystemExit, match="run the inference of the stage that makes these maps"):
        run.initialize()


@pytest.mark.parametrize("stage", STAGES)
def test_evaluate_scores_the_test_split(stage, cv_of, small_release):
    cv, found = cv_of(stage), find_stage(stage)[1]
    keys = cv.settings[stage] | small_release | {"output_dir": str(cv.folder(stage, 0))}
    keys |= {key: str(cv.out / name) for key, name in found.feeds.items()}
    keys["tracking_uri"] = cv.shared["tracking_uri"]
    done = run_bundle(found.bundle, *found.configs, "evaluate", **keys)
    metrics = done.parser.get_parsed_content("validate#evaluator").state.metrics
    assert {f"{output}_{name}" for output in found.outputs for name in ("dice", "hd95")} <= metrics.keys()
    assert ("refined_dice" in metrics) == ("refined" in found.outputs)
    folder = f"test_{keys.get('prompt_source', 'truth_box_10')}" if found.prompted else "test"
    rows = (cv.folder(stage, 0) / folder / "per_image.csv").read_text().splitlines()
    assert len(rows) == 1 + len(cv.manifest.testing)


@pytest.mark.parametrize("stage", ["phase1", "phase3", "automedsam"])
def test_inference_on_a_folder_of_pictures_keeps_size_and_orientation(stage, cv_of, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90), dtype=np.uint8)).save(pictures / "wide.png")
    Image.new("RGBA", (33, 71), (90, 90, 90, 255)).save(pictures / "tall.png")
    cv = cv_of(stage)
    known = configuration(find_stage(stage)[1], "inference")
    keys = {key: value for key, value in cv.settings[stage].items() if key in known}
    checkpoint = str(cv.folder(stage, 0) / "model.pt")
    run_bundle(
        stage, "inference", images=str(pictures), checkpoint=checkpoint, predictions_dir=str(tmp_path / "masks"), **keys
    )
    assert Image.open(tmp_path / "masks" / "wide.png").size == (90, 50)
    assert Image.open(tmp_path / "masks" / "tall.png").size == (33, 71)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.png", "a.jpg"), "several pictures named a"),
        (("a.png", "broken.png"), r"broken\.png"),
        ((), "no picture there"),
    ],
)
def test_pictures_that_cannot_be_predicted_are_refused_before_any_mask(names, said, small_cv, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in names:
        Image.new("L", (40, 30), 90).save(pictures / name)
    if "broken.png" in names:
        (pictures / "broken.png").write_bytes(b"x")
    keys = {"variant": "tiny", "image_size": 64, "checkpoint": str(small_cv.folder("phase1", 0) / "model.pt")}
    with pytest.raises(SystemExit, match=said):
        run_bundle("phase1", "inference", images=str(pictures), predictions_dir=str(tmp_path / "masks"), **keys)
    assert not (tmp_path / "masks").exists()


def test_resume_goes_on_after_the_last_epoch(small_release, tmp_path):
    keys = {"variant": "tiny", "image_size": 64, "batch_size": 4, "output_dir": str(tmp_path), **small_release}
    keys["tracking_uri"] = f"sqlite:///{tmp_path}/m.db"
    run_bundle("phase1", "train", epochs=1, **keys)
    done = run_bundle("phase1", "train", epochs=2, resume="true", **keys)
    assert done.parser.get_parsed_content("train#trainer").state.epoch == 2
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train_loss" in line] == [1, 2]


def test_a_resumed_training_with_other_batches_keeps_the_shape_of_its_schedule(small_release, tmp_path):
    keys = {"variant": "tiny", "image_size": 64, "log_model": False, **small_release}
    keys["tracking_uri"] = f"sqlite:///{tmp_path}/m.db"

    def rates(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["lr_0"] for line in lines if "lr_0" in line}

    run_bundle("phase1", "train", epochs=4, batch_size=2, output_dir=str(tmp_path / "whole"), **keys)
    run_bundle("phase1", "train", epochs=2, batch_size=1, output_dir=str(tmp_path / "cut"), **keys)
    run_bundle("phase1", "train", epochs=4, batch_size=2, resume="true", output_dir=str(tmp_path / "cut"), **keys)
    whole, cut = rates("whole"), rates("cut")
    assert (cut[3], cut[4]) == pytest.approx((whole[3], whole[4])) and whole[4] == pytest.approx(0)


def test_a_finished_training_is_replaced_only_when_asked(small_release, tmp_path):
    """A second run once replaced model, scores and report without a word."""
    keys = {"variant": "tiny", "image_size": 64, "batch_size": 4, "epochs": 1, **small_release}
    keys |= {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    run_bundle("phase1", "train", **keys)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match=r"out: holds a finished training of 1 of 1 epochs; go on with it by --resume"):
        run_bundle("phase1", "train", seed=1, **keys)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    run_bundle("phase1", "train", seed=1, overwrite="true", **keys)
    assert json.loads((tmp_path / "out" / "executed_config.json").read_text())["seed"] == 1
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert len([line for line in lines if "train_loss" in line]) == 1


def test_scores_and_maps_of_another_model_are_replaced_only_when_asked(small_cv, small_release, tmp_path):
    given = {"variant": "tiny", "image_size": 64, "batch_size": 4, "data_root": small_release["data_root"]}
    given |= {"manifest": small_release["manifest"], "output_dir": str(tmp_path / "out")}
    scoring = {"dataset": "PHANTOM", "tracking_uri": f"sqlite:///{tmp_path}/m.db", "split": "val", **given}
    predicting = {"dataset_name": "PHANTOM", "split": "val", **given}
    models = [small_cv.folder("phase1", fold) / "model.pt" for fold in (0, 1)]
    for name, keys, said in (("evaluate", scoring, "scores"), ("inference", predicting, "maps")):
        for _ in range(2):  # the same again changes nothing
            run_bundle("phase1", name, checkpoint=str(models[0]), **keys)
        with pytest.raises(SystemExit, match=f"holds the {said} of (an)?other models?; --overwrite true replaces them"):
            run_bundle("phase1", name, checkpoint=str(models[1]), fold=1, **keys)
        run_bundle("phase1", name, checkpoint=str(models[1]), fold=1, overwrite=True, **keys)


def test_masks_are_replaced_only_when_asked(small_cv, picture, tmp_path):
    keys = {"variant": "tiny", "image_size": 64, "checkpoint": str(small_cv.folder("phase1", 0) / "model.pt")}
    keys |= {"images": str(picture), "predictions_dir": str(tmp_path / "masks")}
    run_bundle("phase1", "inference", **keys)
    with pytest.raises(SystemExit, match=rf"{picture.stem}\.png: already there; --overwrite true replaces"):
        run_bundle("phase1", "inference", **keys)
    run_bundle("phase1", "inference", overwrite=True, **keys)


def test_embeddings_are_computed_once(small_cv, small_release, tmp_path, monkeypatch):
    from ultrarefiner_monai.networks import Sam

    calls = []
    embed = Sam.embed
    monkeypatch.setattr(Sam, "embed", lambda sam, image: calls.append(len(image)) or embed(sam, image))
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.request.project_root", lambda _: tmp_path)
    keys = {**small_cv.settings["phase2"], **small_release, "cache_embeddings": True, "epochs": 2}
    keys |= {"coarse_predictions": str(small_cv.out / "phase1"), "output_dir": str(tmp_path / "out")}
    run_bundle("phase2", "train", tracking_uri=f"sqlite:///{tmp_path}/m.db", **keys)
    assert sum(calls) == len(small_cv.manifest.training)
    keys = {key: value for key, value in keys.items() if key not in ("dataset", "epochs")} | {"dataset_name": "PHANTOM"}
    run_bundle("phase2", "inference", split="val", **keys)  # its network is random until the checkpoint is loaded
    assert sum(calls) == len(small_cv.manifest.training)
