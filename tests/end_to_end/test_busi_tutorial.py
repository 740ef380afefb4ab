"""The tutorial on BUSI: every command, as a newcomer types it, on a small folder made like the release."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from csv import DictReader
from pathlib import Path

import pytest
from small_releases import TINY

from ultrarefiner_monai.data.phantom.phantom import generate_phantom

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs/tutorials/busi.md"
COUNT = 24  # images of the folder


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles, settings of seconds under the name of those of hours, and phantoms laid out like BUSI."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("models", "runs"))
    (folder / "docs/examples").mkdir(parents=True)
    settings = {stage: {**keys, "log_model": False} for stage, keys in TINY.items()}
    (folder / "docs/examples/two_cores.json").write_text(json.dumps(settings))
    generate_phantom(folder / "phantom", count=COUNT, seed=4)
    numbers: Counter[str] = Counter()
    for row in DictReader((folder / "phantom/cases.csv").open()):
        label = row["class"]
        numbers[label] += 1
        release = folder / "data/BUSI/Dataset_BUSI_with_GT" / label
        release.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "phantom" / row["image"], release / f"{label} ({numbers[label]}).png")
        shutil.copy(folder / "phantom" / row["mask"], release / f"{label} ({numbers[label]})_mask.png")
    assert set(numbers) == {"benign", "malignant", "normal"}
    return folder


def execute(command: str, folder: Path) -> str:
    """What a command prints; a manifest gets two folds in place of five."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/m.db"}
    environment = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT)} | store
    small = f"{command} --folds 2" if "manifests build" in command else command
    done = subprocess.run(small, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, command + done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_tutorials_commands_work_one_after_the_other(project: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (project / "data").rglob("*")}
    build, verify, _, cv, _, _ = (execute(command, project) for command in commands())
    assert f"all{COUNT:>11}" in build and f"{COUNT} of {COUNT} items present, 0 faults" in verify
    assert (project / "BUSI.png").is_file()
    assert "ultrarefiner report runs/BUSI" in cv
    report = (project / "BUSI.html").read_text(encoding="utf-8")
    for section in ("Warnings", "Results", "Cases", "What got worse"):
        assert f"<h2>{section}" in report
    normals = len(list((project / "data/BUSI/Dataset_BUSI_with_GT/normal").glob("*).png")))
    assert len(list((project / "predicted/masks").rglob("*.png"))) == normals > 0
    assert len(list((project / "predicted").glob("*.csv"))) == 1
    assert before == {path: path.stat().st_mtime_ns for path in (project / "data").rglob("*")}


def test_the_tutorials_table_is_that_of_the_shipped_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows that the page shows are those that `show` prints of the complete release."""
    from ultrarefiner_monai.cli.manifests import Manifests

    Manifests().show(str(ROOT / "data_manifests/BUSI.json"))
    printed = capsys.readouterr().out.splitlines()
    rows = [
        line
        for line in TUTORIAL.read_text(encoding="utf-8").splitlines()
        if re.match(r"(fold 0|test|normal|all) +\d", line)
    ]
    assert len(rows) == 4 and set(rows) <= set(printed)
