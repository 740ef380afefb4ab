"""Volumes of two scanners through RFMedSAM 2's bundle at one spacing: training, maps, prediction, and what is refused."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from made_volumes import SHAPE, affine, case, make_nnunet, stored
from small_releases import TINY_OF_OTHERS

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.volumes import read_volume
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict
from ultrarefiner_monai.models.card import read_card

SEEN = 1.25  # mm a pixel: slices are 72 x 48 mm, or 58 x 38 pixels of 64, and of the other scanner 36 x 24 mm


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("spacing")
    release = make_nnunet(root / "NIFTI", cases=4)
    for path, voxels in zip(("imagesTr/a4_0000.nii.gz", "labelsTr/a4.nii.gz"), case(4), strict=True):
        nibabel.save(stored(voxels, "LPS", affine() @ np.diag([0.5, 0.5, 1, 1])), release / path)
    document = build_document(read_release("NIFTI", release), Options(folds=2, test_fraction=0))
    write_manifest(document, root / "NIFTI.json")
    keys = {"data_root": str(release), "manifest": str(root / "NIFTI.json"), "output_dir": str(root / "out")}
    keys |= {name: TINY_OF_OTHERS["unet"][name] for name in ("image_size", "unet_features", "batch_size")}
    shared = {"tracking_uri": f"sqlite:///{root / 'mlruns.db'}", "dataset": "NIFTI", "epochs": 1, "amp": False}
    training = keys | shared | {"log_model": True, "spacing": SEEN}
    run_bundle("rfmedsam2", "train", "unet", **training)
    return SimpleNamespace(root=root, keys=keys, training=training, model=root / "out/model.pt")


def test_the_card_keeps_it(trained):
    assert read_card(trained.model)["network"]["unet"]["spacing"] == SEEN


def test_maps_of_the_bundle_are_those_of_predict_on_the_files_own_grids(trained):
    """Inference asks for what the card has, as of every setting of the network."""
    own = trained.keys | {"dataset_name": "NIFTI", "spacing": SEEN, "amp": False, "plan#stage": "unet"}
    manifest = load_manifest(trained.root / "NIFTI.json")
    sizes = set()
    for number, split in enumerate(("val", "train")):
        maps = trained.root / f"maps{number}"
        run_bundle("rfmedsam2", "inference", split=split, predictions_dir=str(maps), **own)
        items = manifest.split(split, 0)
        files = {entry["id"]: maps / entry["file"] for entry in PredictionIndex.load(maps).items}
        assert files.keys() == {item["id"] for item in items}
        name = items[-1]["case"]
        (image,) = {item["image"] for item in items if item["case"] == name}
        source = trained.root / "NIFTI" / image
        out = trained.root / f"predicted{number}"
        predict(source, trained.model, Outputs(out, probability=True), amp=False)
        (file,) = (out / "probability").iterdir()
        voxels = read_volume(file).voxels
        for index in range(SHAPE[2]):
            expected = read_map(files[f"{name}/{index:04d}"])
            np.testing.assert_allclose(voxels[:, :, index].T, expected, atol=2e-3)  # maps have 16 bits
        np.testing.assert_array_equal(nibabel.load(file).affine, nibabel.load(source).affine)
        sizes |= {tuple(item["spacing"]) for item in items}
    assert len(sizes) == 2


@pytest.mark.parametrize(
    ("stage", "keys", "told"),
    [
        (
            "unet",
            {"spacing": 1.0},
            "spacing 1: a3 is 72 mm wide, 72 pixels, and the network sees 64; use --spacing 1.125 or",
        ),
        ("unet", {"spacing": "fine"}, "spacing: expected a number of at least 0.001 and at most 1000, found 'fine'"),
        ("unet", {"spacing": 0}, "spacing: expected a number of at least 0.001"),
        ("joint", {"spacing": 2.0}, "made with network.unet.spacing = 1.25, expected 2.0"),
        ("joint", {}, "made with network.unet.spacing = 1.25, expected None"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_written(stage, keys, told, trained, tmp_path):
    small = dict(TINY_OF_OTHERS[stage])
    starts = {"unet_checkpoint": str(trained.model), "sam_checkpoint": "random"} if stage == "joint" else {}
    own = trained.training | small | starts | {"output_dir": str(tmp_path / "out")}
    own.pop("spacing")
    with pytest.raises(SystemExit) as raised:
        run_bundle("rfmedsam2", "train", *(["unet"] if stage == "unet" else []), **own, **keys)
    assert told in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_evaluation_at_another_spacing_is_refused(trained):
    keys = {name: value for name, value in trained.training.items() if name != "spacing"}
    with pytest.raises(SystemExit, match=r"made with network\.unet\.spacing = 1\.25, expected None"):
        run_bundle("rfmedsam2", "train", "unet", "evaluate", **keys, split="val")


def test_pictures_do_not_tell_the_size_of_their_pixels(small_release, tmp_path, trained):
    keys = trained.training | small_release | {"output_dir": str(tmp_path / "out")}
    with pytest.raises(
        SystemExit, match=r"PHANTOM does not tell the size of the pixels of .* more; use --spacing None"
    ):
        run_bundle("rfmedsam2", "train", "unet", **keys)
    assert not (tmp_path / "out").exists()
    own = {name: value for name, value in trained.keys.items() if name not in ("data_root", "manifest")}
    own |= {"images": str(tmp_path), "spacing": SEEN, "plan#stage": "unet"}
    with pytest.raises(SystemExit, match=r"pictures of --images do not tell the size of their pixels"):
        run_bundle("rfmedsam2", "inference", **own)


def test_the_logged_model_wants_the_size_of_pixels(trained):
    import mlflow

    from ultrarefiner_monai.deploy.mlflow.model import example_of, save
    from ultrarefiner_monai.systems import find_stage

    save(trained.model, trained.root / "logged", amp=False)
    model = mlflow.pyfunc.load_model(str(trained.root / "logged"))
    assert model.metadata.get_input_schema().input_names() == ["image", "spacing_y_mm", "spacing_x_mm"]
    assert len(model.predict(example_of(find_stage("unet")[1], 0.5))) == 1
    saved = json.loads((trained.root / "logged/input_example.json").read_text())
    assert saved["columns"] == ["image", "spacing_y_mm", "spacing_x_mm"]
