"""Labels as programs send them, what the server keeps of them, and what a training makes of them."""

import gzip
import io
import json
import os
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
from label_server import png, until
from PIL import Image

pytestmark = pytest.mark.monailabel

LEFT_BACK = np.diag([-1.0, -1.0, 1.0, 1.0])  # an image without orientation in the eyes of ITK and 3D Slicer
# Files as 3D Slicer writes them, which does it with ITK: a plane of a volume, left-posterior-superior.
ITK = """
import sys, numpy as np, SimpleITK as sitk
mask = np.load(sys.argv[1])
for name, values in (("volume", mask[None]), ("plane", mask)):
    for suffix in (".nrrd", ".seg.nrrd", ".nii.gz", ".nii"):
        sitk.WriteImage(sitk.GetImageFromArray(values), f"{sys.argv[2]}/{name}{suffix}", useCompression=True)
"""


@pytest.fixture(scope="module")
def image(server):
    """The name of a picture that is not square."""
    return server.unlabelled()[0]


@pytest.fixture(scope="module")
def mask(server, image):
    """A label of it: an L in a corner, which no turn and no mirror leaves as it is."""
    width, height = Image.open(server.picture(image)).size
    assert width != height
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[5:15, 10:70] = mask[15:60, 10:20] = 1
    return mask


@pytest.fixture(scope="module")
def itk_files(server, mask, tmp_path_factory):
    """The mask in files that ITK has written in the server's environment."""
    folder = tmp_path_factory.mktemp("itk")
    np.save(folder / "mask.npy", mask)
    command = [os.environ["MONAILABEL_PYTHON"], "-c", ITK, folder / "mask.npy", folder]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    return folder


def nifti(values, affine=LEFT_BACK):
    return gzip.compress(nibabel.Nifti1Image(values, affine).to_bytes())


def nrrd(values, space="left-posterior-superior", directions="(1,0,0) (0,1,0) (0,0,1)", **fields):
    """An NRRD file by hand of bytes, x first."""
    head = {
        "type": "uchar",
        "dimension": values.ndim,
        "space": space,
        "sizes": " ".join(map(str, values.shape)),
        "space directions": directions,
        "encoding": "raw",
        **fields,
    }
    lines = "".join(f"{name}: {value}\n" for name, value in head.items())
    return f"NRRD0004\n{lines}\n".encode() + values.astype(np.uint8).tobytes(order="F")


def palette(mask):
    """PNG whose values are indices of colours, as some painting programs write it."""
    image = Image.fromarray(mask).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


RIGHT_FRONT = {"space": "right-anterior-superior"}
LEFT_FRONT = {"space": "left-anterior-superior", "directions": "(-1,0,0) (0,1,0) (0,0,1)"}
SENT = {
    "0 and 1.png": lambda mask: png(mask, lesion=1),
    "0 and 255.png": png,
    "indices of colours.png": palette,
    "a plane.nii.gz": lambda mask: nifti(mask.T),
    "as MONAI writes it.nii.gz": lambda mask: nifti(mask.T[..., None], np.eye(4)),
    "three segments.nii.gz": lambda mask: nifti((mask.T * np.arange(1, len(mask.T) + 1)[:, None]).astype(np.int16)),
    "left.nrrd": lambda mask: nrrd(mask.T[..., None]),
    "right.nrrd": lambda mask: nrrd(mask.T[..., None], **RIGHT_FRONT),
    "scaled.nrrd": lambda mask: nrrd(mask.T[..., None], directions="(0.1,0,0) (0,0.2,0) (0,0,1)"),
    "left and front.nrrd": lambda mask: nrrd(mask.T[..., None], **LEFT_FRONT),
    "two layers.seg.nrrd": lambda mask: nrrd(
        np.stack([mask.T[..., None] * (np.arange(len(mask.T)) % 2 == i)[:, None, None] for i in (0, 1)]),
        directions="none (1,0,0) (0,1,0) (0,0,1)",
        kinds="list domain domain domain",
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_a_label_is_kept_as_png_in_the_place_where_it_was_drawn(name, server, image, mask):
    answer = server.send_label(image, name, SENT[name](mask))
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(server.label(image), mask)
    assert [path.name for path in (server.pictures / "labels" / "final").glob(f"{image}.*")] == [f"{image}.png"]


@pytest.mark.parametrize("name", ["volume", "plane"])
@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".nii.gz", ".nii"])
def test_a_label_that_itk_has_written_is_in_its_place(name, suffix, server, image, mask, itk_files):
    server.put_label(image, 1 - mask)
    answer = server.send_label(image, f"{name}{suffix}", (itk_files / f"{name}{suffix}").read_bytes())
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(server.label(image), mask)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_a_mask_of_the_server_in_another_kind_comes_back_as_the_same_label(suffix, server, image):
    answer = server.ask("phase1", image, result_extension=suffix, result_dtype="uint8")
    assert answer.status_code == 200, answer.text
    assert server.send_label(image, f"corrected{suffix}", answer.content).status_code == 200
    np.testing.assert_array_equal(server.label(image), server.infer("phase1", image))


REFUSED = {
    "small.png": (lambda mask: png(mask[::2, ::2]), "its image has"),
    "turned.png": (lambda mask: png(mask.T), "its image has"),
    "small.nii.gz": (lambda mask: nifti(mask.T[:-1]), "its image has"),
    "small.nrrd": (lambda mask: nrrd(mask.T[:-1, :, None]), "its image has"),
    "mirrored.nii.gz": (lambda mask: nifti(mask.T, np.diag([1, -1, 1, 1])), "turned or mirrored"),
    "mirrored.nrrd": (
        lambda mask: nrrd(mask.T[..., None], directions="(-1,0,0) (0,1,0) (0,0,1)"),
        "turned or mirrored",
    ),
    "swapped.nrrd": (lambda mask: nrrd(mask.T[..., None], directions="(0,1,0) (1,0,0) (0,0,1)"), "turned or mirrored"),
    "volume.nrrd": (lambda mask: nrrd(np.stack([mask.T, mask.T], -1)), "expected a plane"),
    "elsewhere.nrrd": (lambda mask: nrrd(mask.T[..., None], **{"data file": "/etc/hostname"}), "in another file"),
    "broken.nrrd": (lambda mask: nrrd(mask.T[..., None])[:-9], "cannot be read as NRRD"),
    "broken.png": (lambda mask: b"no picture", "cannot be read as an image"),
    "label.mha": (lambda mask: b"", "a name that ends in"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_lie_on_the_image_is_refused_and_the_label_stays(name, server, image, mask):
    server.put_label(image, mask)
    content, said = REFUSED[name]
    answer = server.send_label(image, name, content(mask))
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert "/tmp" not in answer.json()["detail"]  # what the server calls the file is no business of the client's
    np.testing.assert_array_equal(server.label(image), mask)


def test_a_coarse_mask_of_another_size_is_refused(server, image, mask):
    picture = server.picture(image)
    files = {"file": (picture.name, picture.read_bytes()), "label": ("coarse.nrrd", nrrd(mask.T[:, :-1, None]))}
    answer = server.ask("phase2", files=files)
    assert (answer.status_code, "its image has" in answer.json()["detail"]) == (400, True)
    files["label"] = ("coarse.nrrd", nrrd(mask.T[..., None]))
    expected = server.infer("phase2", files={**files, "label": ("coarse.png", png(mask))})
    np.testing.assert_array_equal(server.infer("phase2", files=files), expected)


@pytest.fixture
def only_these_labels(server):
    """Deletes all labels, of earlier tests too."""
    for image in set(server.images()) - set(server.unlabelled()):
        server.delete("/datastore/label", params={"id": image, "tag": "final"})


def test_png_nifti_and_nrrd_are_trained_on_and_the_model_before_can_be_put_back(server, only_these_labels):
    images = server.unlabelled()  # once: a label that was deleted may come off the list in between
    png_image, nifti_image, nrrd_image, laid, wrong, asked = images[:6]
    truth = {image: np.asarray(Image.open(server.truth(image))) > 0 for image in images[:5]}
    sent = {png_image: ("a.png", png), nifti_image: ("a.nii.gz", lambda mask: nifti(mask.T.astype(np.uint8)))}
    sent[nrrd_image] = ("a.nrrd", lambda mask: nrrd(mask.T[..., None]))
    for image, (name, content) in sent.items():
        assert server.send_label(image, name, content(truth[image])).status_code == 200
    folder = server.pictures / "labels" / "final"
    (folder / f"{laid}.nrrd").write_bytes(nrrd(truth[laid].T[..., None]))  # by hand, past the server
    (folder / f"{wrong}.nii.gz").write_bytes(nifti(truth[wrong].T[:-1].astype(np.uint8)))
    model = server.model("phase1")
    before, card = model.read_bytes(), json.loads(model.with_suffix(".json").read_text())
    mask = server.infer("phase1", asked)
    task = server.train("phase1", max_epochs=3, val_split=-1)
    assert task["status"] == "DONE", "\n".join(task["details"])
    log = server.log.read_text(errors="replace")
    assert "Total Records for Training: 4" in log
    assert f"left out of the training: {folder / wrong}.nii.gz: a label of" in log
    assert model.read_bytes() != before
    kept = next(model.parent.glob(f"*_{card['sha256'][:8]}"))
    assert (kept / "model.pt").read_bytes() == before
    for file in kept.iterdir():  # as the guide says
        shutil.copyfile(file, model.parent / file.name)
    np.testing.assert_array_equal(server.infer("phase1", asked), mask)


def test_a_training_that_a_client_waits_for_tells_that_no_label_is_of_use(server, only_these_labels):
    image = server.unlabelled()[0]
    (server.pictures / "labels" / "final" / f"{image}.png").write_bytes(png(np.ones((4, 5))))
    until(30, lambda: image not in server.unlabelled())
    answer = server.post("/train/phase1", params={"run_sync": True}, json={"max_epochs": 1})
    assert (answer.status_code, "no label to learn from" in answer.json()["detail"]) == (400, True)
    server.delete("/datastore/label", params={"id": image, "tag": "final"})
    until(30, lambda: image in server.unlabelled())
    answer = server.post("/train/phase1", json={"max_epochs": 1})
    assert (answer.status_code, "label some first" in answer.json()["detail"]) == (400, True)
