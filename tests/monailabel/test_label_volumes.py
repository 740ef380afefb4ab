"""Volumes of a MONAI Label server: what may be asked of them, their masks, their labels. NRRD is tried with the server."""

import json

import nibabel
import numpy as np
import pytest
from made_volumes import SHAPE, affine, case, stored
from untrained import PARTS, save_untrained

from ultrarefiner_monai.data.volumes import read_grid, read_labels, read_volume, scaled
from ultrarefiner_monai.deploy.monailabel.parts import card_of
from ultrarefiner_monai.deploy.monailabel.training import usable
from ultrarefiner_monai.deploy.monailabel.volumes import (
    check_volume_request,
    read_volume_label,
    segment_volume,
    volume_uncertainty,
    write_volume,
)
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter


def served(folder, stage, **facts):
    """A folder as the server has one, with a model of random weights."""
    save_untrained(folder / "models" / "model.pt", stage, **facts)
    return folder


@pytest.fixture
def volume(tmp_path):
    """A file whose axes are turned."""
    nibabel.save(stored(case(1)[0], "LPS"), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize("stage", ["phase1", "joint"])
def test_a_volumes_mask_is_that_of_its_slices(stage, volume, tmp_path):
    bundle = served(tmp_path / stage, stage)
    labels, grid, told = segment_volume(bundle, {"image": str(volume), "threshold": 0.45}, card_of(bundle))
    segment = load_segmenter(bundle / "models/model.pt")
    voxels = scaled(read_volume(volume).voxels)
    expected = np.stack([segment(np.ascontiguousarray(voxels[:, :, k].T)).T >= 0.45 for k in range(SHAPE[2])], 2)
    np.testing.assert_array_equal(labels, expected)
    assert told["lesion_voxels"] == expected.sum() and 0 < told["uncertainty"] <= 1
    assert told["uncertainty"] == pytest.approx(volume_uncertainty(bundle, volume))
    write_volume(labels, grid, tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert (written.shape, nibabel.aff2axcodes(written.affine)) == (SHAPE, tuple("LPS"))
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.nii.gz").voxels, labels)


def test_organs_are_numbered_and_one_is_shown_alone(volume, tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS["joint"], "unet", {**PARTS["joint"]["unet"], "classes": "liver+spleen"})
    bundle = served(tmp_path / "joint", "joint")
    path = bundle / "models/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": "organs"}))
    card = card_of(bundle)
    every, *_ = segment_volume(bundle, {"image": str(volume), "threshold": 0}, card)
    one, *_ = segment_volume(bundle, {"image": str(volume), "threshold": 0, "show": "spleen"}, card)
    assert set(np.unique(every)) <= {1, 2}
    np.testing.assert_array_equal(one, every == 2)


@pytest.mark.parametrize(
    ("request_of", "told"),
    [
        (
            {"result_extension": ".png"},
            r"result_extension: \.png holds no volume; expected one of \.nii\.gz, \.nii, \.nrrd",
        ),
        ({"foreground": [[1, 2]]}, "foreground: volumes are segmented without"),
        ({"roi": [1, 2, 3, 4]}, "roi: volumes are segmented without"),
        ({"label": "/tmp/tmp12345678.png"}, "label: volumes are segmented without"),
        ({"show": "coarse"}, "show: of a volume refined is shown, or a class; found coarse"),
        ({"positive_points": 7}, "positive_points: of a volume it is what the model was trained with"),
    ],
)
def test_what_is_for_pictures_is_refused(request_of, told, tmp_path):
    card = card_of(served(tmp_path / "phase3", "phase3"))
    check_volume_request({"foreground": [], "threshold": 0.3, "show": "refined", "result_extension": ".nii"}, card)
    with pytest.raises(DataError, match=told):
        check_volume_request(request_of, card)


def test_a_label_keeps_its_numbers_and_has_to_lie_on_its_volume(volume, tmp_path):
    labels = case(1)[1]
    nibabel.save(stored(labels, "SRA"), tmp_path / "turned.nii.gz")  # the same place, other axes: another grid
    nibabel.save(stored(labels, "LPS"), tmp_path / "label.nii.gz")
    grid = read_grid(volume)
    np.testing.assert_array_equal(read_volume_label(tmp_path / "label.nii.gz", grid), labels)
    with pytest.raises(DataError, match=r"turned\.nii\.gz: image is .* resample the labels"):
        read_volume_label(tmp_path / "turned.nii.gz", grid)
    moved = affine()
    moved[0, 3] += 1
    nibabel.save(stored(labels, "LPS", moved), tmp_path / "moved.nii.gz")
    with pytest.raises(DataError, match=r"moved\.nii\.gz: affines of image and labels differ by 1"):
        read_volume_label(tmp_path / "moved.nii.gz", grid)
    claims = nibabel.Nifti1Header()
    claims.set_data_shape((500, 500, 500))
    claims.set_data_dtype(np.uint8)
    claims["vox_offset"] = 352
    (tmp_path / "claims.nii").write_bytes(claims.binaryblock + bytes(4))
    with pytest.raises(DataError, match=r"claims\.nii: image is .* labels are \(500, 500, 500\)"):
        read_volume_label(tmp_path / "claims.nii", grid)  # of voxels that are not there, nor asked for
    with pytest.raises(DataError, match=r"label\.png: a label of a volume is \.nii\.gz"):
        read_volume_label(tmp_path / "label.png", grid)


def test_volumes_are_left_out_of_trainings(volume, caplog):
    with pytest.raises(DataError, match="no label to learn from"):
        usable([{"image": str(volume), "label": str(volume)}])
    assert "volumes are not learned from here" in caplog.text
