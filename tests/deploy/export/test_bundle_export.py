"""A bundle that stands alone: what is in it, what it says of its model, and that it runs without the package installed."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image

from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.deploy.export import bundle as bundle_export
from ultrarefiner_monai.deploy.export.bundle import export_bundle
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers import CheckpointError
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.systems import all_stages, find_stage
from ultrarefiner_monai.systems.keys import configuration

STAGES = tuple(all_stages())
PARTS = {"LICENSE", "configs", "docs", "models", "ultrarefiner_monai"}


def config_of(bundle, name):
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def workflow(bundle, *names, **keys):
    """Run a bundle in this process, with the package of this process, which cannot know where the bundle lies."""
    files = [str(bundle / "configs" / f"{name}.json") for name in names]
    kind = "infer" if names == ("inference",) else "train"
    return ConfigWorkflow(files, workflow_type=kind, bundle_root=str(bundle), **keys)


def expected_mask(model, picture):
    return load_segmenter(model, amp=True)(read_grey(picture)) >= 0.5


@pytest.mark.parametrize("phase", STAGES)
def test_the_folder_holds_all_that_a_bundle_needs_and_nothing_else(phase, export_of, tmp_path):
    bundle, _ = export_of(phase)
    assert {path.name for path in bundle.iterdir()} == PARTS
    assert sorted(path.name for path in (bundle / "configs").iterdir()) == [
        "evaluate.json",
        "inference.json",
        "logging.conf",
        "metadata.json",
        "multi_gpu_train.json",
        "train.json",
    ]
    assert not [path for path in bundle.rglob("*") if path.name == "__pycache__" or path.suffix == ".pyc"]
    assert (bundle / "models" / "model.pt").read_bytes() == (tmp_path / phase / "model.pt").read_bytes()
    card, complete = (
        json.loads((folder / "model.json").read_text()) for folder in (tmp_path / phase, bundle / "models")
    )
    assert card.items() <= complete.items()
    manifests = bundle / "ultrarefiner_monai" / "_shipped" / "data_manifests"
    assert [path.name for path in manifests.iterdir()] == ["PHANTOM.json"]


def test_configurations_are_set_to_the_model(export_of):
    bundle, _ = export_of("phase3", lora_rank=2)
    for name in ("train", "inference"):
        config = config_of(bundle, name)
        assert (config["variant"], config["image_size"], config["points"]) == ("tiny", 64, 1)
        assert (config["coarse_variant"], config["coarse_size"]) == ("tiny", 64)
        assert (config["fusion"], config["lora_rank"], config["fold"]) == ("learned", 2, 0)
    assert config_of(bundle, "train")["dataset"] == "PHANTOM"
    assert config_of(bundle, "inference")["dataset_name"] == "PHANTOM"
    assert config_of(bundle, "inference")["dataset"]["_target_"] == "Dataset"


@pytest.mark.parametrize("phase", STAGES)
@pytest.mark.parametrize("name", ["train", "multi_gpu_train", "evaluate", "inference"])
def test_an_exported_configuration_has_the_keys_of_the_bundles(phase, name, export_of):
    bundle, _ = export_of(phase)
    stage = find_stage(phase)[1]
    original = configuration(stage, *(stage.configs if name == "train" else (name,)))
    keys = {key for key in original if name != "train" or "#" not in key}  # of one training all is in one file
    assert config_of(bundle, name).keys() == (keys | {"run"}) - {"initialize"}


@pytest.mark.parametrize("phase", STAGES)
def test_exported_configurations_are_of_the_models_stage(phase, export_of):
    bundle, _ = export_of(phase)
    assert {config_of(bundle, name)["plan"]["stage"] for name in ("train", "inference")} == {phase}


@pytest.mark.parametrize("phase", STAGES)
def test_nothing_needs_the_package_before_monai_has_put_the_folder_on_the_path(phase, export_of):
    bundle, _ = export_of(phase)
    for name in ("train", "multi_gpu_train", "evaluate", "inference"):
        config = config_of(bundle, name)
        assert "initialize" not in config
        assert "$bundle.check_keys()" in config["run"]
    assert config_of(bundle, "multi_gpu_train")["run"][-1] == "$bundle.train(@train#trainer)"


def test_the_page_tells_data_figures_hash_licences_and_limits(export_of):
    bundle, _ = export_of("phase1")
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    sha256 = json.loads((bundle / "models" / "model.json").read_text())["sha256"]
    for told in (
        "Not for clinical use",
        "PHANTOM",
        "0.7500",
        sha256,
        "Apache-2.0",
        "## Limits",
        "configs/inference.json",
    ):
        assert told in page


def test_metadata_have_the_models_size_and_figure(export_of):
    bundle, _ = export_of("phase2")
    metadata = config_of(bundle, "metadata")
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [64, 64]
    assert metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] == [64, 64]
    assert metadata["eval_metrics"]["PHANTOM, fold 0, validation"]["means"] == {"dice": 0.75}


def test_metadata_say_what_the_channels_are_of_a_network_that_tells_classes(export_of):
    bundle, _ = export_of("automedsam")
    metadata = config_of(bundle, "metadata")
    channels = {"0": "background", "1": "benign", "2": "malignant"}
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert (output["num_channels"], output["channel_def"]) == (3, channels)
    assert metadata["label_classes"] == "one channel, 0 is background, 1 is benign, 2 is malignant"
    for name in ("train", "inference"):
        assert config_of(bundle, name)["classes"] == "benign+malignant"


def test_the_classes_of_a_data_set_are_predicted_into_folders_and_others_are_refused(training, export_of, tmp_path):
    manifest = load_manifest(training.keys["manifest"])
    bundle, _ = export_of("automedsam", manifest_sha256=manifest.sha256)
    keys = {key: training.keys[key] for key in ("data_root", "manifest", "batch_size")}
    keys |= {"predictions_dir": str(tmp_path / "maps"), "cache_embeddings": False}
    run = workflow(bundle, "inference", **keys)
    run.initialize()
    run.run()
    folders = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert folders == ["benign", "malignant", "mask"]
    found = [sorted((tmp_path / "maps" / name).rglob("*.nii.gz")) for name in folders]
    assert len({len(maps) for maps in found}) == 1
    benign, malignant, lesion = (np.asarray(nibabel.load(maps[0]).dataobj) for maps in found)
    np.testing.assert_allclose(benign + malignant, lesion, atol=1e-4)
    other = workflow(bundle, "inference", **keys, classes="lesion")
    other.initialize()
    with pytest.raises(SystemExit, match=r"network\.sam\.classes = 'benign\+malignant', expected 'lesion'; change"):
        other.run()


@pytest.mark.parametrize("phase", ["phase1", "phase3", "automedsam"])
def test_inference_predicts_what_the_model_predicts(phase, export_of, picture, tmp_path):
    bundle, _ = export_of(phase)
    run = workflow(bundle, "inference", images=str(picture), predictions_dir=str(tmp_path / "masks"))
    run.initialize()
    run.run()
    found = np.asarray(Image.open(tmp_path / "masks" / f"{picture.stem}.png")) > 0
    expected = expected_mask(bundle / "models" / "model.pt", picture)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(found, expected)


def test_phase2_refines_the_coarse_maps_of_a_data_set(training, export_of, tmp_path):
    keys = {key: training.keys[key] for key in ("data_root", "manifest", "batch_size")}
    manifest = load_manifest(keys["manifest"])
    simulate_predictions(manifest, keys["data_root"], "phase1", tmp_path / "coarse")
    bundle, _ = export_of("phase2", manifest_sha256=manifest.sha256)
    run = workflow(bundle, "inference", coarse_predictions=str(tmp_path / "coarse"), cache_embeddings=False, **keys)
    run.initialize()
    run.run()
    refined = bundle / "models" / "PHANTOM" / "fold0" / "predictions" / "refined"
    assert len(list(refined.rglob("*.nii.gz"))) == len(manifest.split("val", 0)) > 0


def test_network_and_transforms_are_built_without_any_data(export_of):
    """As MONAI Label and the model zoo do, which name no pictures."""
    bundle, network = export_of("phase3")
    parser = workflow(bundle, "inference").parser
    assert parser.get_parsed_content("network_def").state_dict().keys() == network.state_dict().keys()
    assert len(parser.get_parsed_content("preprocessing").transforms) == 2
    assert parser.get_parsed_content("inferer").amp


def test_training_and_evaluation_run_from_the_bundle(training, tmp_path):
    bundle = export_bundle(training.folder / "model.pt", tmp_path / "bundle")
    keys = {key: training.keys[key] for key in ("data_root", "manifest", "batch_size", "epochs")}
    keys["tracking_uri"] = f"sqlite:///{tmp_path}/m.db"
    train = workflow(bundle, "train", **keys)
    train.initialize()
    train.run()
    assert (bundle / "models" / "PHANTOM" / "fold0" / "model.pt").is_file()
    evaluate = workflow(bundle, "train", "evaluate", **keys)
    evaluate.initialize()
    evaluate.run()
    scored = json.loads((bundle / "models" / "PHANTOM" / "fold0" / "test" / "run.json").read_text())
    assert "coarse_dice" in scored["metrics"]


def test_runs_from_an_empty_folder_where_the_package_is_not_installed(export_of, picture, tmp_path):
    bundle, _ = export_of("phase1")
    empty = tmp_path / "empty"
    empty.mkdir()
    command = ["-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "inference.json")]
    done = without_the_package(*command, "--images", str(picture), cwd=empty)
    assert done.returncode == 0, done.stderr
    found = np.asarray(Image.open(empty / "masks" / f"{picture.stem}.png")) > 0
    assert np.array_equal(found, expected_mask(bundle / "models" / "model.pt", picture))
    assert [path.name for path in empty.iterdir()] == ["masks"]


def test_the_package_is_really_absent_there(tmp_path):
    done = without_the_package("-c", "import ultrarefiner_monai", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'ultrarefiner_monai'"


def test_a_bundle_of_a_real_data_set_trains_on_nothing_else(export_of, tmp_path):
    bundle, _ = export_of("phase1", dataset="BUSI")
    assert [path.name for path in bundle.rglob("_shipped/data_manifests/*")] == ["BUSI.json"]
    assert config_of(bundle, "train")["strict"] is True
    assert not (bundle / "ultrarefiner_monai" / "data" / "phantom").exists()
    command = ["-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "train.json")]
    for keys, told in (
        ((), "no data root for BUSI (--data_root FOLDER)"),
        (("--strict", "false"), "no manifest data_manifests/PHANTOM.json"),
        (("--dataset", "PHANTOM"), "no manifest data_manifests/PHANTOM.json"),
    ):
        done = without_the_package(*command, *keys, cwd=tmp_path)
        assert done.returncode != 0
        assert told in done.stderr.splitlines()[-1], done.stderr


def without_the_package(*arguments, cwd):
    """Python with the packages of this environment, but without those that it finds through .pth files: editable ones."""
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_archive_holds_the_folder(export_of):
    archive, _ = export_of("phase1", zip=True)
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as opened:
        names = {name for name in opened.namelist() if not name.endswith("/")}
        assert opened.testzip() is None
    assert names == {f"phase1/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_something_is_refused(training, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="out: expected an absent or empty folder"):
        export_bundle(training.folder / "model.pt", tmp_path / "out")
    (tmp_path / "other.zip").touch()
    with pytest.raises(DataError, match=r"other\.zip: already there"):
        export_bundle(training.folder / "model.pt", tmp_path / "other", zip=True)


def test_a_card_that_tells_nothing_of_the_data_is_refused(make_model, tmp_path):
    model, _ = make_model("phase1")
    with pytest.raises(DataError, match=r"no dataset, fold; export the model\.pt"):
        export_bundle(model, tmp_path / "out")


def test_damaged_weights_are_refused(make_model, tmp_path):
    model, _ = make_model("phase1")
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        export_bundle(model, tmp_path / "out")


def test_an_export_that_fails_leaves_nothing(training, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_export, "copy_files", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_bundle(training.folder / "model.pt", tmp_path / "out")
    assert not list(tmp_path.iterdir())
