"""The guide to one's own data, and manifests by hand: every command, as a user types it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.phantom.phantom import generate_phantom

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/how-to/own_data.md"
SMALL = "--variant tiny --image_size 32 --epochs 1 --batch_size 8 --amp False"  # in place of an hour's training


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles, and with data that no release is like."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("models", "runs"))
    generate_phantom(folder / "phantom", count=16, seed=4)
    rows = (folder / "phantom/cases.csv").read_text().splitlines()[1:]
    for part in ("images", "masks"):
        shutil.copytree(folder / "phantom" / part, folder / "data/MYSET" / part)
    table = "\n".join(["Image;Patient", *(f"{row.split(',')[0]};{row.split(',')[2]}" for row in rows)])
    (folder / "data/MYSET/patients.csv").write_text(table)
    return folder


def execute(command: str, folder: Path) -> subprocess.CompletedProcess:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": paths,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/m.db",
    }
    small = f"{command} {SMALL}" if "train.json" in command else command
    return subprocess.run(small, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_guides_commands_work_one_after_the_other(project: Path) -> None:
    assert len(commands()) == 5
    for command in commands():
        done = execute(command, project)
        assert done.returncode == 0, command + done.stdout[-2000:] + done.stderr[-2000:]
    masks = sorted((project / "results/masks").rglob("*.png"))
    assert len(masks) == 16
    manifest = json.loads((project / "data_manifests/MYSET.json").read_text(encoding="utf-8"))
    assert manifest["num_folds"] == 3 and not any("patients of" in warning for warning in manifest["warnings"])
    assert json.loads((project / "bundles/phase1/models/MYSET/fold0/model.json").read_text())["dataset"] == "MYSET"


def test_a_manifest_by_hand_goes_through_everything(tmp_path: Path) -> None:
    """Only what the schema asks for, with a name and a layout that nothing in the package knows."""
    from ultrarefiner_monai.cli.manifests import Manifests
    from ultrarefiner_monai.cross_validation.tasks import run_bundle

    items = []
    for number in range(6):
        image, label = f"scan/{number}/us.bmp", f"drawn by {number}.png"
        noise = np.random.default_rng(number).integers(0, 256, (40, 50), dtype=np.uint8)
        truth = np.zeros((40, 50), dtype=np.uint8)
        truth[10:20, 10 : 20 + number] = 1
        (tmp_path / "data" / image).parent.mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "data" / image)
        Image.fromarray(truth).save(tmp_path / "data" / label)
        sha256 = hashlib.sha256((tmp_path / "data" / image).read_bytes()).hexdigest()
        about = {"id": f"case {number}", "image": image, "label": label, "class": "cyst", "patient": str(number)}
        items.append({**about, "group": str(number), "width": 50, "height": 40, "sha256": sha256, "fold": number % 2})
    document = {"schema": "ultrarefiner_monai/manifest/1", "name": "by-hand", "num_folds": 2, "seed": 0}
    document |= {"training": items, "testing": [], "normal": [], "excluded": []}
    manifest = tmp_path / "any.json"
    manifest.write_text(json.dumps(document))

    Manifests().verify(str(manifest), str(tmp_path / "data"))
    Manifests().show(str(manifest), str(tmp_path / "data"))
    Manifests().diff(str(manifest), str(manifest))
    keys = {"data_root": str(tmp_path / "data"), "manifest": str(manifest), "output_dir": str(tmp_path / "out")}
    keys |= {"variant": "tiny", "image_size": 32, "batch_size": 4}
    store = {"tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    run_bundle("phase1", "train", dataset="by-hand", epochs=1, **keys, **store)
    run_bundle("phase1", "inference", dataset_name="by-hand", **keys)
    maps = sorted(
        path.relative_to(tmp_path / "out/predictions") for path in (tmp_path / "out/predictions").rglob("*.nii.gz")
    )
    assert [path.as_posix() for path in maps] == [f"scan/{number}/us.nii.gz" for number in (0, 2, 4)]


def test_the_guides_manifest_is_one() -> None:
    from ultrarefiner_monai.data.manifests.validate import document_faults

    (example,) = re.findall(r"```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert document_faults(json.loads(example)) == []
