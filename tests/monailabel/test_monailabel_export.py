"""The app's folder and the commands, and what is refused; no server needed."""

import json
import os
import shutil
import subprocess

import pytest

from ultrarefiner_monai.deploy.monailabel.export import export_monailabel
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256 as sha256


def test_models_are_added_to_one_app_with_their_weights_unchanged(models, tmp_path):
    for phase in ("phase1", "phase2"):
        told = export_monailabel(models[phase], tmp_path, coarse=models["phase1"] if phase == "phase2" else None)
    assert f"--app {tmp_path / 'monaibundle'}" in told
    assert f"-r {tmp_path / 'requirements.txt'}" in told
    folder = tmp_path / "monaibundle" / "model"
    assert sorted(path.name for path in folder.iterdir()) == ["phase1", "phase2"]
    assert {path.name for path in folder.parent.glob("*.py")} == {"main.py", "studies.py", "web.py"}
    for phase in ("phase1", "phase2"):
        assert (folder / phase / "models" / "model.pt").read_bytes() == models[phase].read_bytes()
        assert (folder / phase / "ultrarefiner_monai" / "deploy" / "monailabel" / "parts.py").is_file()
        assert not (folder / phase / "ultrarefiner_monai" / "bundle").exists()
        page = (folder / phase / "docs" / "README.md").read_text()
        assert "Not for clinical use." in page and f"Weights SHA-256 `{sha256(models[phase])}`" in page
        assert "MONAI Label" in page and "python -m monai.bundle run --config_file" not in page
    assert (folder.parent / "ultrarefiner_monai" / "deploy" / "monailabel" / "parts.py").is_file()
    proposes = folder / "phase2" / "models" / "phase1" / "model.pt"
    assert proposes.read_bytes() == models["phase1"].read_bytes()
    options = json.loads((folder / "phase2" / "configs" / "inference.json").read_text())["displayable_configs"]
    assert options["threshold"] == 0.5
    assert options["box"] is True


def test_clients_are_told_the_values_of_the_mask_and_not_the_networks_channels(classes_model, tmp_path):
    export_monailabel(classes_model, tmp_path)
    configs = tmp_path / "monaibundle" / "model" / "automedsam" / "configs"
    output = json.loads((configs / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "background", "1": "lesion"} and output["num_channels"] == 3
    options = json.loads((configs / "inference.json").read_text())["displayable_configs"]
    assert options == {"threshold": 0.5, "show": ["mask", "benign", "malignant"]}


def test_what_cannot_be_served_is_refused(models, tmp_path):
    with pytest.raises(DataError, match=r"^name 'lesion_detection': expected letters"):
        export_monailabel(models["phase1"], tmp_path, name="lesion_detection")
    with pytest.raises(DataError, match=r"^name '\.\./phase1': expected letters"):
        export_monailabel(models["phase1"], tmp_path, name="../phase1")
    with pytest.raises(DataError, match="phase3 needs none; leave --coarse out"):
        export_monailabel(models["phase3"], tmp_path, coarse=models["phase1"])
    with pytest.raises(DataError, match="expected a model of phase1, found phase3"):
        export_monailabel(models["phase2"], tmp_path, coarse=models["phase3"])
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_there_is_not_overwritten(models, tmp_path):
    export_monailabel(models["phase1"], tmp_path)
    with pytest.raises(DataError, match="phase1: already there; choose another --name or remove it"):
        export_monailabel(models["phase3"], tmp_path, name="phase1")
    shutil.rmtree(tmp_path / "monaibundle" / "model" / "phase1")
    export_monailabel(models["phase3"], tmp_path, name="phase1")


@pytest.mark.monailabel
@pytest.mark.slow
def test_no_requirement_has_been_withdrawn(models, tmp_path):
    """A release that its authors have yanked installs with a warning of pip's, which needs the index."""
    python = os.environ.get("MONAILABEL_PYTHON")
    if not python:
        pytest.skip("no environment of MONAI Label (MONAILABEL_PYTHON); run 'make monailabel-test'")
    export_monailabel(models["phase1"], tmp_path)
    options = (
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--quiet",
        "--requirement",
        tmp_path / "requirements.txt",
    )
    done = subprocess.run([python, "-m", "pip", "install", *options], capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"pip cannot reach an index: {done.stderr.strip().splitlines()[-1]}")
    assert "yanked" not in done.stderr
