"""A volume in, a volume on its own grid out."""

import json

import nibabel
import numpy as np
import pytest
from made_volumes import affine, case, stored

from ultrarefiner_monai.data.volumes import grey_slice, read_volume
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter


@pytest.fixture
def model(make_model):
    return make_model("phase1")[0]


@pytest.mark.parametrize("turn", ["RAS", "LPS", "SRA"])
def test_a_volume_gets_a_volume_of_its_affine_shape_and_orientation(turn, model, tmp_path):
    source = stored(case(1)[0], turn)
    nibabel.save(source, tmp_path / "a.nii.gz")
    summary = predict(tmp_path / "a.nii.gz", model, Outputs(tmp_path / "out", probability=True, overlay=turn == "RAS"))
    mask, probability = (nibabel.load(tmp_path / f"out/{folder}/a.nii.gz") for folder in ("masks", "probability"))
    for image in (mask, probability):
        assert image.shape == source.shape
        np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
        assert nibabel.aff2axcodes(image.affine) == tuple(turn)
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) <= {0, 1}
    segment = load_segmenter(model)
    found = read_volume(tmp_path / "out/probability/a.nii.gz").voxels
    for index in (0, 7):
        expected = segment(grey_slice(tmp_path / "a.nii.gz", index))
        np.testing.assert_array_equal(found[:, :, index].T, expected)
    np.testing.assert_array_equal(read_volume(tmp_path / "out/masks/a.nii.gz").voxels, found >= 0.5)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["mask_values"] == {"0": "background", "1": "lesion"}
    assert [row["frame"] for row in report["pictures"]] == list(range(1, 13))
    assert {row["mask"] for row in report["pictures"]} == {"masks/a.nii.gz"}
    assert summary.rows[0]["spacing_x_mm"] == pytest.approx(1.5, abs=1e-5)
    assert summary.rows[0]["spacing_y_mm"] == pytest.approx(1.2, abs=1e-5)
    overlays = sorted(path.name for path in (tmp_path / "out").glob("overlays/*"))
    assert len(overlays) == (12 if turn == "RAS" else 0)


def test_a_volume_that_is_none_is_told_in_one_line_and_the_others_are_predicted(model, tmp_path):
    (tmp_path / "in").mkdir()
    nibabel.save(stored(case(1)[0]), tmp_path / "in/a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3, 2), np.uint8), affine()), tmp_path / "in/b.nii.gz")
    voxels = case(2)[0].astype(np.float32)
    voxels[1, 2, 3] = np.inf
    nibabel.save(stored(voxels), tmp_path / "in/c.nii.gz")
    summary = predict(tmp_path / "in", model, Outputs(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["a.nii.gz"]
    reasons = dict(summary.failures)
    assert "found (4, 5, 3, 2)" in reasons[str(tmp_path / "in/b.nii.gz")]
    assert "1 voxels are NaN or infinite" in reasons[str(tmp_path / "in/c.nii.gz")]
    assert not any("\n" in reason for reason in reasons.values())
    assert summary.exit_code == 1


def test_results_that_are_there_are_not_replaced(model, tmp_path):
    nibabel.save(stored(case(1)[0]), tmp_path / "a.nii.gz")
    predict(tmp_path / "a.nii.gz", model, Outputs(tmp_path / "out"))
    with pytest.raises(DataError, match=r"masks/a\.nii\.gz.*already there"):
        predict(tmp_path / "a.nii.gz", model, Outputs(tmp_path / "out"))
