"""Slices of volumes through a bundle: training, evaluation, out-of-fold maps."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from made_volumes import SHAPE, make_btcv
from untrained import SIZE

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    make_btcv(root / "BTCV")
    document = build_document(read_release("BTCV", root / "BTCV"), Options(folds=3, test_fraction=0))
    write_manifest(document, root / "BTCV.json")
    keys = {"dataset": "BTCV", "data_root": str(root / "BTCV"), "manifest": str(root / "BTCV.json")}
    keys |= {"variant": "tiny", "image_size": SIZE, "batch_size": 8, "epochs": 2, "log_model": False}
    keys |= {"output_dir": str(root / "out"), "tracking_uri": f"sqlite:///{root / 'mlruns.db'}"}
    run_bundle("phase1", "train", **keys)
    return SimpleNamespace(root=root, out=root / "out", keys=keys, manifest=load_manifest(root / "BTCV.json"))


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_training_is_validated_on_all_slices_of_its_folds_case(trained):
    slices = trained.manifest.split("val", 0)
    assert [item["slice"] for item in slices] == list(range(SHAPE[2]))
    assert {row["id"] for row in rows_of(trained.out / "per_image.csv")} == {item["id"] for item in slices}
    assert {row["unit"] for row in rows_of(trained.out / "per_image.csv")} == {"mm"}


def test_a_case_has_a_row_of_its_own(trained):
    (row,) = rows_of(trained.out / "per_case.csv")
    assert row["case"] == trained.manifest.split("val", 0)[0]["case"]
    assert (row["slices"], row["coarse_absent"]) == (str(SHAPE[2]), "0")
    assert 0 <= float(row["coarse_dice"]) == float(row["coarse_dice_lesion"]) <= 1


def test_maps_of_slices_are_paired_with_them_and_are_those_of_predict(trained):
    keys = {key: value for key, value in trained.keys.items() if key not in ("dataset", "tracking_uri", "log_model")}
    own = {key: keys[key] for key in ("data_root", "manifest", "output_dir", "variant", "image_size", "batch_size")}
    run_bundle("phase1", "inference", dataset_name="BTCV", **own)
    paired = pair_predictions(trained.manifest.split("val", 0), [trained.out / "predictions"], trained.manifest)
    case = paired[0]["case"]
    assert paired[3]["coarse"].endswith(f"predictions/img/{case}/0003.nii.gz")
    outputs = Outputs(trained.root / "predicted", probability=True)
    predict(trained.root / "BTCV" / "img" / f"{case}.nii.gz", trained.out / "model.pt", outputs)
    from ultrarefiner_monai.data.volumes import read_volume

    voxels = read_volume(trained.root / f"predicted/probability/{case}.nii.gz").voxels
    for index, item in enumerate(paired):
        np.testing.assert_allclose(voxels[:, :, index].T, read_map(item["coarse"]), atol=0.02)  # bf16, other batches
