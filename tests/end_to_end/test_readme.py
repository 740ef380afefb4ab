"""Every command of the README, run as a new user would in a fresh clone.

The environment is the one the tests run in; `make demo` and `make test` themselves, which create one, are left to the person who
reads this and to continuous integration, where `make test` runs these tests.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from browsing import served
from mlflow import MlflowClient
from untrained import save_untrained

import ultrarefiner_monai

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    for line in block.splitlines()
]
ELSEWHERE = ("make demo", "make test", "source .venv/bin/activate")
SLOW = {
    next(command for command in COMMANDS if command.startswith("torchrun")),
    "python -m monai.bundle run --config_file bundles/phase3/configs/train.json",
    "ultrarefiner cv BUSBRA --data_root data/BUSBRA --settings docs/examples/two_cores.json",
    "ultrarefiner quickstart --system automedsam --out runs/quickstart_automedsam",
    "ultrarefiner quickstart --system uniultra --out runs/quickstart_uniultra",
    "ultrarefiner report runs/BUSBRA --out BUSBRA.html",  # of the cross-validation that the command before it has made
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What git would hand to a new user, with a phantom where the README expects BUS-BRA."""
    folder = tmp_path_factory.mktemp("fresh") / "ultrarefiner_monai"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in (name for name in listed if (ROOT / name).is_file()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def execute(command: str, clone: Path, timeout: float) -> subprocess.CompletedProcess:
    # The clone comes before the checkout on the path, so that what runs is what the clone holds.
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(clone)}
    return subprocess.run(
        command, shell=True, cwd=clone, env=environment, capture_output=True, text=True, timeout=timeout
    )


def on_the_phantom(command: str, clone: Path) -> str:
    """The README's commands for BUS-BRA, on data that every machine has; an untrained model for that of `make demo`."""
    if "runs/quickstart/" in command:
        save_untrained(clone / "runs/quickstart/phase3/fold0/model.pt", "phase3", dataset="PHANTOM", fold=0)
    if "BUSBRA" in command and not (clone / "data" / "PHANTOM").is_dir():
        done = execute("ultrarefiner phantom --out data/PHANTOM", clone, 120)
        assert done.returncode == 0, done.stderr
    return command.replace("BUSBRA", "PHANTOM")


def cases():
    for command in COMMANDS:
        if command not in ELSEWHERE and not command.startswith("ultrarefiner ui"):
            yield pytest.param(command, marks=[pytest.mark.slow] if command in SLOW else [])


def test_the_readme_has_its_two_commands():
    assert {"make demo", "make test"} <= set(COMMANDS)
    targets = (ROOT / "Makefile").read_text()
    assert "\ndemo: install" in targets
    assert "\ntest: lint types" in targets


@pytest.mark.parametrize("command", list(cases()))
def test_command_succeeds(command, clone):
    done = execute(on_the_phantom(command, clone), clone, timeout=1500)
    if command == "ultrarefiner doctor" and "missing: LiteMedSAM" in done.stdout:
        pytest.skip("LiteMedSAM's weights are not installed here, and doctor says so")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_ui_serves_the_store(clone, store):
    """The command after the demonstration, whose experiment is there then."""
    MlflowClient(store).create_experiment("PHANTOM")
    command = next(command for command in COMMANDS if command.startswith("ultrarefiner ui"))
    words = [str(BIN / "ultrarefiner"), *command.split()[1:]]
    with (
        served(words, clone, MLFLOW_TRACKING_URI=store) as address,
        urllib.request.urlopen(f"{address}/health") as answer,
    ):
        assert answer.read() == b"OK"


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == ultrarefiner_monai.__version__
