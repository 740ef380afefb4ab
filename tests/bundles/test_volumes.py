"""Slices of volumes through a bundle: training, evaluation, out-of-fold maps; several organs at once."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_volumes import SHAPE, make_btcv, make_nnunet
from small_releases import TINY_OF_OTHERS
from untrained import SIZE

from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.volumes import read_labels
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict
from ultrarefiner_monai.metrics.classes import class_mask
from ultrarefiner_monai.models.card import read_card
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.systems import find_stage, find_system
from ultrarefiner_monai.transforms import ClassMaskd, LoadMaskd


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    make_btcv(root / "BTCV")
    document = build_document(read_release("BTCV", root / "BTCV", clip=(-300, 900)), Options(folds=3, test_fraction=0))
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
    """Grey values outside of the manifest's range are seen alike by both."""
    assert read_card(trained.out / "model.pt")["clip"] == [-300, 900]
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


@pytest.fixture(scope="module")
def told_apart(tmp_path_factory):
    """A cross-validation of RFMedSAM 2 that tells spleen and liver apart, in this order; in the files they are 2 and 1."""
    root = tmp_path_factory.mktemp("organs")
    release = make_nnunet(root / "NIFTI", cases=5)
    document = build_document(read_release("NIFTI", release), Options(folds=2, test_fraction=0.2))
    write_manifest(document, root / "NIFTI.json")
    shared = {"manifest": str(root / "NIFTI.json"), "tracking_uri": f"sqlite:///{root / 'mlruns.db'}"}
    shared |= {"classes": "spleen+liver", "log_model": False, "amp": False}
    settings = {stage: TINY_OF_OTHERS[stage] for stage in ("unet", "joint")}
    cv = CrossValidation("NIFTI", str(release), root / "cv", None, shared, settings, system=find_system("rfmedsam2"))
    conduct([cv])
    return SimpleNamespace(root=root, release=release, cv=cv)


def test_organs_have_scores_in_the_row_of_their_case(told_apart):
    """Those of the evaluation's own masks, scored again from the maps that the cross-validation keeps."""
    cv, folder = told_apart.cv, told_apart.cv.folder("joint", 0)
    every = {(row["case"], row["fold"], row["phase"]): row for row in rows_of(cv.out / "per_case.csv")}
    assert {fold for _, fold, _ in every} == {"0", "1", "test"} and {phase for *_, phase in every} == {"joint"}
    names = {f"step2_{score}_{organ}" for score in ("dice", "hd95", "assd") for organ in ("spleen", "liver")}
    for row in rows_of(folder / "per_case.csv"):
        found = every[row["case"], "0", "joint"]
        assert (
            names | {"step2_organs_dice", "unet_dice", "step2_dice_lesion"}
            <= row.keys()
            == found.keys() - {"fold", "phase"}
        )
        maps = PredictionIndex.load(folder / "predictions/step2")
        mine = {entry["id"]: folder / "predictions/{}" / entry["file"] for entry in maps.items}
        truth = read_labels(told_apart.release / "labelsTr" / f"{row['case']}.nii.gz").voxels
        told = []
        for index in range(SHAPE[2]):
            path = str(mine[f"{row['case']}/{index:04d}"])
            lesion, *organs = (read_map(path.format(name)) for name in ("step2", "spleen", "liver"))
            told.append(class_mask(lesion, np.stack(organs)))
        pred = np.stack(told)
        for number, (organ, label) in enumerate((("spleen", 2), ("liver", 1)), 1):
            true = truth.transpose(2, 1, 0) == label
            dice = 2 * (true & (pred == number)).sum() / (true.sum() + (pred == number).sum())
            assert float(found[f"step2_dice_{organ}"]) == pytest.approx(dice)


def test_a_slice_has_no_class(told_apart):
    """Organs are of pixels; neither rows, nor cards, nor measures say that an image is of one."""
    rows = rows_of(told_apart.cv.out / "per_image.csv")
    assert not [name for name in rows[0] if "probability_" in name or name.endswith("_class")]
    model = told_apart.cv.folder("joint", 0) / "model.pt"
    card = read_card(model)
    assert (card["labels"], card["network"]["unet"]["classes"]) == ("organs", "spleen+liver")
    case = told_apart.cv.manifest.testing[0]["image"]
    out = told_apart.root / "predicted"
    predict(told_apart.release / case, model, Outputs(out, labels=True))
    report = json.loads((out / "report.json").read_text())
    assert report["mask_values"] == {"0": "background", "1": "spleen", "2": "liver"}
    assert "class" not in report["pictures"][0]
    assert set(np.unique(read_labels(out / "masks" / Path(case).name).voxels)) <= {0, 1, 2}


def test_what_the_network_learns_from_are_the_numbers_of_the_wanted_labels(told_apart):
    manifest = told_apart.cv.manifest
    (item,) = [item for item in manifest.split("test", 0) if item["slice"] == 6]
    path = str(told_apart.release / item["label"])
    stored = LoadMaskd("label")({"label": path, "slice": 6})["label"]
    told = LoadMaskd("label")({"label": path, "slice": 6, "organs": manifest.organs(("spleen", "liver"))})["label"]
    labels = read_labels(Path(path)).voxels[:, :, 6].T
    assert torch.equal(stored[0] > 0, torch.from_numpy(labels > 0))
    assert torch.equal(told[0], torch.from_numpy(np.array([0, 2, 1], np.uint8)[labels]).float())
    assert torch.equal(ClassMaskd("label", ("spleen", "liver"))({"label": told, "organs": [2, 1]})["label"], told)


@pytest.mark.parametrize(
    ("stage", "keys", "told"),
    [
        ("unet", {"classes": "spleen+livre"}, "label 'livre': did you mean 'liver'"),
        ("automedsam", {"classes": "spleen+liver"}, "AutoMedSAM gives an image one class"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused_in_one_line(stage, keys, told, told_apart, tmp_path):
    found = find_stage(stage)[1]
    own = {"dataset": "NIFTI", "data_root": str(told_apart.release), "manifest": str(told_apart.root / "NIFTI.json")}
    own |= {**TINY_OF_OTHERS[stage], **keys, "output_dir": str(tmp_path / "out")}
    with pytest.raises(SystemExit, match=re.escape(told)):
        run_bundle(found.bundle, *found.configs, **own)
    assert not (tmp_path / "out").exists()


def test_a_cross_validation_of_volumes_is_reported(told_apart, tmp_path):
    page = report(told_apart.cv.out, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "NIFTI" in page and all(name in page for name in ("unet", "step1", "step2"))
