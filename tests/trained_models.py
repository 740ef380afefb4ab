"""A phase 1 trained for an epoch on a few phantom pictures, with its MLflow store, and networks with random weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from untrained import SIZE, save_untrained

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.deploy.export.bundle import export_bundle


@dataclass
class Training:
    """A training that has ended: its folder, its keys and its store."""

    folder: Path
    keys: dict
    uri: str


@pytest.fixture(scope="session")
def training(tmp_path_factory):
    root = tmp_path_factory.mktemp("deploy")
    generate_phantom(root / "PHANTOM", count=10, seed=3)
    document = build_document(read_release("PHANTOM", str(root / "PHANTOM")), Options(folds=2))
    write_manifest(document, root / "PHANTOM.json")
    keys = {"dataset": "PHANTOM", "data_root": str(root / "PHANTOM"), "manifest": str(root / "PHANTOM.json")}
    keys |= {"variant": "tiny", "image_size": SIZE, "batch_size": 4, "epochs": 1}
    keys |= {"output_dir": str(root / "out"), "tracking_uri": f"sqlite:///{root / 'mlruns.db'}"}
    run_bundle("phase1", "train", **keys)
    return Training(root / "out", keys, keys["tracking_uri"])


@pytest.fixture
def make_model(tmp_path):
    """Write the model.pt of a stage with random weights and its card."""

    def make(phase, lora_rank=0, classes=""):
        return save_untrained(tmp_path / phase / "model.pt", phase, "learned", lora_rank, classes)

    return make


@pytest.fixture
def picture(tmp_path):
    """A phantom picture, which is not square, as a file."""
    generate_phantom(tmp_path / "one", count=1, seed=8)
    (path,) = (tmp_path / "one" / "images").iterdir()
    width, height = Image.open(path).size
    assert width != height
    return path


@pytest.fixture
def predicted_by_bundle(tmp_path):
    """The mask that a bundle's inference.json writes for one picture."""

    def predict(phase, checkpoint, picture, **keys):
        keys = {"variant": "tiny", "image_size": SIZE, **keys}
        run_bundle(
            phase,
            "inference",
            images=str(picture),
            checkpoint=str(checkpoint),
            predictions_dir=str(tmp_path / "masks"),
            **keys,
        )
        return np.asarray(Image.open(tmp_path / "masks" / f"{picture.stem}.png")) > 0

    return predict


@pytest.fixture
def export_of(make_model, tmp_path):
    """Export the bundle of a phase's model with random weights, whose card says that it is of fold 0 of the phantom."""

    def export(phase, lora_rank=0, zip=False, classes="", **facts):
        model, network = make_model(phase, lora_rank, classes)
        told = {"dataset": "PHANTOM", "fold": 0, "manifest_sha256": "0" * 64, "epoch": 3, "metric": {"dice": 0.75}}
        told |= facts
        card = model.with_suffix(".json")
        card.write_text(json.dumps({**json.loads(card.read_text()), **told, "version": "0.1.0"}))
        return export_bundle(model, tmp_path / "exported" / phase, zip), network

    return export
