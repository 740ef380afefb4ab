"""Volumes over HTTP: their masks as NIfTI and NRRD, labels that come back, and what is refused."""

import io
import os
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from conftest import started
from made_volumes import SHAPE, case, stored

from ultrarefiner_monai.data.volumes import read_labels, read_volume
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.deploy.monailabel.parts import MODEL
from ultrarefiner_monai.models import load_segmenter

pytestmark = pytest.mark.monailabel

# As 3D Slicer reads and writes label maps, which it does with ITK.
ITK = """
import sys, numpy as np, SimpleITK as sitk
image = sitk.ReadImage(sys.argv[1])
np.save(sys.argv[2], sitk.GetArrayFromImage(image))
sitk.WriteImage(image, sys.argv[3], useCompression=True)
print(image.GetSpacing(), image.GetOrigin())
"""


@pytest.fixture(scope="module")
def volumes(server, tmp_path_factory):
    """A server of two volumes, one of them turned, and a picture."""
    folder = tmp_path_factory.mktemp("volumes")
    (folder / "pictures").mkdir()
    for name, turn in (("straight", "RAS"), ("turned", "SRA")):
        nibabel.save(stored(case(1)[0], turn), folder / "pictures" / f"{name}.nii.gz")
    picture = next(server.pictures.glob("*.png"))
    (folder / "pictures" / picture.name).write_bytes(picture.read_bytes())
    with started(replace(server, pictures=folder / "pictures", log=folder / "server.log")) as found:
        yield found


def masked(volumes, answer, tmp_path, name="mask.nii.gz"):
    assert answer.status_code == 200, answer.text
    (tmp_path / name).write_bytes(answer.content)
    return tmp_path / name


def test_volumes_are_listed_beside_pictures(volumes):
    assert {"straight", "turned"} < volumes.images().keys() and len(volumes.images()) == 3


@pytest.mark.parametrize("stage", ["phase1", "phase3", "joint"])
@pytest.mark.parametrize("name", ["straight", "turned"])
def test_a_mask_lies_on_its_volume_and_is_that_of_its_slices(stage, name, volumes, tmp_path):
    path = masked(volumes, volumes.ask(stage, name), tmp_path)
    source, mask = nibabel.load(volumes.picture(name)), nibabel.load(path)
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-4)
    voxels = read_labels(path).voxels
    # What is served: another test may have trained it meanwhile.
    segmenter = load_segmenter(volumes.app / "model" / stage / MODEL, device="cpu")
    slices = VolumeFile(volumes.picture(name)).frames()
    for k, found in enumerate(segmenter.predict_volume(slices)):
        np.testing.assert_array_equal(voxels[:, :, k].T, found.probability >= 0.5)


def test_a_volume_is_sent_with_its_request(volumes, tmp_path):
    content = volumes.picture("turned").read_bytes()
    path = masked(volumes, volumes.ask("phase1", files={"file": ("a.nii.gz", content)}), tmp_path)
    own = masked(volumes, volumes.ask("phase1", "turned"), tmp_path, "own.nii.gz")
    np.testing.assert_array_equal(read_labels(path).voxels, read_labels(own).voxels)


def test_nrrd_there_and_back_through_itk_is_the_same_label(volumes, tmp_path):
    """What 3D Slicer gets, as ITK sees it, and what it sends back as a label of the volume."""
    expected = masked(volumes, volumes.ask("phase1", "turned"), tmp_path)
    nrrd = masked(volumes, volumes.ask("phase1", "turned", result_extension=".nrrd"), tmp_path, "mask.nrrd")
    places = []
    for source in (expected, nrrd):  # ITK reads both as the same image in the same place
        done = subprocess.run(
            [
                os.environ["MONAILABEL_PYTHON"],
                "-c",
                ITK,
                source,
                tmp_path / f"{source.suffix}.npy",
                tmp_path / "back.nrrd",
            ],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        places.append([float(number) for number in done.stdout.translate(str.maketrans("(),", "   ")).split()])
    assert places[0] == pytest.approx(places[1], abs=1e-3)
    np.testing.assert_array_equal(np.load(tmp_path / ".nrrd.npy"), np.load(tmp_path / ".gz.npy"))
    answer = volumes.send_label("turned", "label.nrrd", (tmp_path / "back.nrrd").read_bytes())
    assert answer.status_code == 200, answer.text
    kept = volumes.pictures / "labels/final/turned.nii.gz"
    np.testing.assert_array_equal(read_labels(kept).voxels, read_labels(expected).voxels)
    assert nibabel.load(kept).shape == nibabel.load(volumes.picture("turned")).shape
    back = volumes.get("/datastore/label", params={"label": "turned", "tag": "final"})
    assert back.content == kept.read_bytes()


def test_a_volume_is_added_scored_and_the_next_to_label(volumes, tmp_path):
    content = volumes.picture("straight").read_bytes()
    added = volumes.put("/datastore/", params={"image": "third"}, files={"file": ("b.nii.gz", content)})
    assert added.status_code == 200, added.text
    assert volumes.picture("third").read_bytes() == content
    found = volumes.post("/activelearning/uncertainty_phase1", json={}).json()
    assert found["id"] in volumes.images() and 0 < found["uncertainty"] <= 1


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"result_extension": ".png"}, "holds no volume"),
        ({"foreground": [[3, 4]]}, "volumes are segmented without"),
        ({"show": "coarse"}, "of a volume refined is shown"),
    ],
)
def test_what_is_for_pictures_is_refused_in_one_line(asked, told, volumes):
    answer = volumes.ask("phase3_clicks" if "foreground" in asked else "phase3", "straight", **asked)
    assert (answer.status_code, told in answer.json()["detail"]) == (400, True), answer.text


def test_a_damaged_volume_and_a_label_of_another_place_are_refused(volumes):
    content = volumes.picture("straight").read_bytes()
    answer = volumes.ask("phase1", files={"file": ("a.nii.gz", content[: len(content) // 2])})
    assert answer.status_code == 400 and "the image that was sent" in answer.json()["detail"]
    before = volumes.images()["straight"].get("labels", {})
    other = io.BytesIO(volumes.picture("turned").read_bytes()).getvalue()
    answer = volumes.send_label("straight", "label.nii.gz", other)
    assert answer.status_code == 400 and "/tmp" not in answer.json()["detail"]
    assert volumes.images()["straight"].get("labels", {}) == before
    assert read_volume(volumes.picture("straight")).voxels.shape == SHAPE
