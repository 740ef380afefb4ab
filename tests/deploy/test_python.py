"""Models from Python: whatever an image comes as, the mask is that of its file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from untrained import save_untrained

from ultrarefiner_monai import load
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.python import grey_of
from ultrarefiner_monai.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of two folds, and a picture whose rows and columns differ in number."""
    folder = tmp_path_factory.mktemp("python")
    for fold in (0, 1):
        save_untrained(folder / f"fold{fold}" / "model.pt", "phase1", epoch=fold)
    grey = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load(folder / "fold0" / "model.pt", device="cpu", amp=False)


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/python.md"])
def test_the_lines_of_the_pages_run(page, folder, tmp_path):
    """As a stranger types them, in a process of its own."""
    text = (Path(__file__).parents[2] / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shutil.copytree(folder / "fold0", tmp_path / "runs" / "quickstart" / "phase3" / "fold0")
    shutil.copy(folder / "picture.png", tmp_path / "image.png")
    code = "".join(blocks) + "print(mask.shape, mask.dtype)"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert blocks and said.stdout.splitlines()[-1] == "(40, 60) bool" and not said.stderr


def kinds():
    """The picture in every form that it may have."""
    return {
        "path": lambda path: str(path),
        "PIL": Image.open,
        "RGBA": lambda path: Image.open(path).convert("RGBA"),
        "uint8": lambda path: np.asarray(Image.open(path)),
        "fractions": lambda path: np.asarray(Image.open(path), dtype=np.float64) / 255,
        "16 bits": lambda path: np.asarray(Image.open(path)).astype(np.uint16) * 257,
        "strided": lambda path: np.repeat(np.asarray(Image.open(path)), 2, 1)[:, ::2],
        "colours": lambda path: np.asarray(Image.open(path).convert("RGB")),
        "alpha": lambda path: np.asarray(Image.open(path).convert("RGBA")),
        "tensor": lambda path: torch.from_numpy(np.array(Image.open(path))),
        "channel first": lambda path: torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(2, 0),
        "half": lambda path: torch.from_numpy(np.array(Image.open(path)) / np.float32(255)).to(torch.bfloat16),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_image_is_the_same_picture(kind, folder, model):
    path = folder / "picture.png"
    image = kinds()[kind](path)
    atol = 0.004 if kind == "half" else 1e-4 if kind == "16 bits" else 1e-6
    if kind != "path":
        np.testing.assert_allclose(grey_of(image), read_grey(path), atol=atol)
    found, expected = model.predict(image), model.predict(path)
    np.testing.assert_allclose(found.probability, expected.probability, atol=10 * atol)
    assert found.mask.shape == (40, 60) and found.mask.dtype == bool


def test_colours_become_the_luma_of_files(folder):
    colours = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "colours.png")
    np.testing.assert_allclose(grey_of(colours), read_grey(folder / "colours.png"), atol=0.6 / 255)  # files are rounded


def test_a_list_and_a_threshold_and_an_ensemble(folder, model):
    path = folder / "picture.png"
    ensemble = load(folder, device="cpu", amp=False)
    found = ensemble.predict(path, threshold=0.4)
    assert len(ensemble.ensemble.paths) == 2 and found.deviation.max() >= 0
    np.testing.assert_array_equal(found.mask, found.probability >= 0.4)
    masks = model([path, np.asarray(Image.open(path))])
    assert len(masks) == 2 and np.array_equal(*masks)


def test_the_folder_of_a_bundle_is_its_model(folder, tmp_path):
    shutil.copytree(folder / "fold0", tmp_path / "bundle" / "models")
    assert load(tmp_path / "bundle").ensemble.paths == [tmp_path / "bundle" / "models" / "model.pt"]


def test_frames_of_a_file_are_stacked(folder, model):
    pages = [Image.fromarray(np.full((30, 50), value, np.uint8)) for value in (20, 200)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    found = model.predict(folder / "pages.tif")
    assert found.mask.shape == found.probability.shape == (2, 30, 50) and found.quality.shape == (2,)
    np.testing.assert_allclose(found.probability[1], model.predict(pages[1]).probability, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((4, 4), np.nan), "NaN or infinite"),
        (np.zeros((2, 4, 4, 3)), r"found \(2, 4, 4, 3\): turn its axes"),
        (np.zeros((0, 4)), r"found \(0, 4\)"),
        (np.zeros((4, 4), bool), "found bool; convert it"),
        (np.full((4, 4), -1.0), "found float64 from -1 to -1"),
        ({"image": 1}, "found dict; turn it into one"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(image, said, model):
    with pytest.raises(DataError, match=said) as error:
        model(image)
    assert "\n" not in str(error.value)


def test_a_model_that_needs_another_says_so(tmp_path):
    path, _ = save_untrained(tmp_path / "model.pt", "phase2")
    with pytest.raises(DataError, match="phase2 refines the map of phase1"):
        load(path)
