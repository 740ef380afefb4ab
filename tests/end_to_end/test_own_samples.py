"""Real images in three layouts of one's own: from the files to a trained model and its masks, as a user would do it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.data.manifests.manifest import available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.readers import find_root

ROOT = Path(__file__).resolve().parents[2]
COUNT = 24  # images of each layout

Sample = tuple[Path, np.ndarray, dict]  # file, lesion (H, W), entry of the shipped manifest


def samples(name: str, shared_data: Path) -> list[Sample]:
    """The first images with a lesion of a release's sample, in turns of its folds."""
    root = Path(str(find_root(name, shared_data)))
    manifest, _ = available(load_manifest(shipped_manifest(name)), root)
    items = sorted(manifest.training, key=lambda item: item["id"])[:COUNT]
    return [(root / item["image"], read_mask([root / path for path in masks_of(item)]), item) for item in items]


def two_folders(found: list[Sample], root: Path) -> list[str]:
    """`scans`, `drawn` with another suffix, and a table separated by semicolons."""
    rows = [["Datei", "Patientin", "Befund"]]
    for file, mask, item in found:
        for folder in ("scans", "drawn"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, root / "scans" / file.name)
        Image.fromarray(mask).save(root / "drawn" / f"{file.stem} lesion.png")
        rows.append([file.name, item["patient"], item["class"]])
    with (root / "who.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    columns = ["--image_column", "Datei", "--patient_column", "Patientin", "--class_column", "Befund"]
    return ["--images", "scans", "--masks", "drawn", "--table", str(root / "who.csv"), *columns]


def nnunet(found: list[Sample], root: Path) -> list[str]:
    """`imagesTr` and `labelsTr` with values 0 and 1."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number, (file, mask, _) in enumerate(found):
        with Image.open(file) as picture:
            picture.convert("L").resize(mask.shape[::-1]).save(root / f"imagesTr/us_{number:03}_0000.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / f"labelsTr/us_{number:03}.png")
    about = {"channel_names": {"0": "US"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(about))
    return []


def coco(found: list[Sample], root: Path) -> list[str]:
    """`annotations/instances.json`, run lengths of every other image and polygons around the rest."""
    from skimage.measure import find_contours

    (root / "images").mkdir(parents=True)
    content: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
    }
    for number, (file, mask, item) in enumerate(found):
        shutil.copyfile(file, root / "images" / file.name)
        height, width = mask.shape
        content["images"].append({"id": number, "file_name": file.name, "height": height, "width": width})
        if number % 2:
            runs = np.diff(np.flatnonzero(np.diff(np.r_[0, mask.T.ravel(), 2])), prepend=0)
            segmentation: object = {"size": [height, width], "counts": runs.tolist()}
        else:
            outlines = find_contours(np.pad(mask, 1).astype(float), 0.5)  # pixel centres, one further for the padding
            segmentation = [(outline[:, ::-1] - 0.5).ravel().tolist() for outline in outlines]
        category = 1 + (item["class"] == "malignant")
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": category, "segmentation": segmentation}
        )
    (root / "annotations").mkdir()
    (root / "annotations/instances.json").write_text(json.dumps(content))
    return []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "release"),
    [(coco, "BUSI"), (nnunet, "BUS_UCLM"), (two_folders, "BUSBRA")],
    ids=["coco", "nnunet", "folders"],
)
def test_from_files_to_masks(
    layout: Callable[[list[Sample], Path], list[str]], release: str, shared_data: Path, tmp_path: Path
) -> None:
    found = samples(release, shared_data)
    root = tmp_path / "data/MYSET"
    options = layout(found, root)
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("models", "runs"))
    print(
        _run(
            tmp_path, "ultrarefiner_monai", "manifests", "build", "MYSET", "--root", str(root), "--folds", "3", *options
        )
    )
    assert f"MYSET: {COUNT} of {COUNT} items present, 0 faults" in _run(
        tmp_path, "ultrarefiner_monai", "manifests", "verify", "MYSET", "--root", str(root)
    )
    manifest = load_manifest(tmp_path / "data_manifests/MYSET.json")
    lesions = sorted(int(mask.sum()) for _, mask, _ in found)
    tolerance = 0.01 if layout is coco else 0  # corners of outlines cut those of pixels
    assert sorted(item["lesion_pixels"] for item in manifest.items()) == pytest.approx(lesions, rel=tolerance, abs=4)
    if layout is not nnunet:
        assert sorted(item["class"] for item in manifest.items()) == sorted(item["class"] for *_, item in found)
    if layout is two_folders:
        assert {item["patient"] for item in manifest.items()} == {item["patient"] for *_, item in found}
    else:
        assert any(
            f"patients of {COUNT} of {COUNT} images are not known" in line for line in manifest.header["warnings"]
        )
    keys = ["--variant", "tiny", "--image_size", "64", "--epochs", "1", "--batch_size", "8", "--amp", "False"]
    train = ["--config_file", "bundles/phase1/configs/train.json", "--dataset", "MYSET", *keys]
    _run(tmp_path, "monai.bundle", "run", *train)
    model = "bundles/phase1/models/MYSET/fold0/model.pt"
    images = sorted({Path(item["image"]).parent.as_posix() for item in manifest.items()})
    _run(
        tmp_path,
        "ultrarefiner_monai",
        "predict",
        *(f"data/MYSET/{image}" for image in images),
        "--model",
        model,
        "--out",
        "out",
    )
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == COUNT


def _run(folder: Path, module: str, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/m.db"}
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
