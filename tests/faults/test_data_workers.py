"""Data workers that raise or are killed: one line, soon, wherever images are loaded."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from stage_trainings import command
from torch.utils.data import get_worker_info

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data import pixels
from ultrarefiner_monai.errors import DataError, mistake_in, one_line_errors
from ultrarefiner_monai.systems import find_stage

pytestmark = pytest.mark.fault(8)
KILLED = "a process that loads images (exited unexpectedly|was killed by signal: Killed), .* --workers 0"


def a_validation_picture(release):
    with Path(release["manifest"]).open(encoding="utf-8") as file:
        return [item["image"] for item in json.load(file)["training"] if item["fold"] == 0][1]


def damage(path):
    os.truncate(path, 100)


def kill(path):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(params=[damage, kill])
def planted(request, small_release, tmp_path, monkeypatch):
    """A release whose second validation picture is damaged, or kills its reader, when a data worker reads it."""
    root = shutil.copytree(small_release["data_root"], tmp_path / "release")
    name = a_validation_picture(small_release)
    read = pixels.read_grey

    def read_planted(path, *arguments, **named):
        if str(path).endswith(name) and get_worker_info() is not None:
            request.param(path)
        return read(path, *arguments, **named)

    monkeypatch.setattr(pixels, "read_grey", read_planted)
    said = KILLED if request.param is kill else rf"^{root / name}: cannot be read as an image \(.*; copy it again"
    return {"data_root": str(root), "workers": 1, "batch_size": 2}, said


def check(work, said):
    with pytest.raises(SystemExit, match=said) as caught:
        work()
    assert "\n" not in str(caught.value.code)


def check_training(stage, stage_keys, planted, tmp_path):
    keys, said = planted
    _, found = find_stage(stage)
    check(lambda: run_bundle(found.bundle, *found.configs, **stage_keys | keys, cache_rate=0.0), said)
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["status"] == "failed" and report["error"].startswith("DataError: ") and "\n" not in report["error"]


@pytest.mark.parametrize("planted", [damage], indirect=True)
def test_a_damaged_file_in_every_training(stage, stage_keys, planted, tmp_path):
    check_training(stage, stage_keys, planted, tmp_path)


@pytest.mark.parametrize(("stage", "planted"), [("phase1", kill)], indirect=["planted"])
def test_a_killed_worker_in_training(stage, stage_keys, planted, tmp_path):
    """Of every stage in `test_in_a_process_of_its_own`."""
    check_training(stage, stage_keys, planted, tmp_path)


@pytest.mark.parametrize("config", ["evaluate", "inference"])
def test_in_evaluation_and_inference(config, small_cv, small_release, planted, tmp_path):
    keys, said = planted
    release = small_release | keys
    if config == "inference":
        release["dataset_name"] = release.pop("dataset")
    keys = release | {"variant": "tiny", "image_size": 64, "split": "val", "fold": 0}
    keys |= {"checkpoint": str(small_cv.folder("phase1", 0) / "model.pt"), "output_dir": str(tmp_path / "out")}
    if config == "evaluate":
        keys |= {"cache_rate": 0.0, "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    check(lambda: run_bundle("phase1", config, **keys), said)


def test_while_the_cache_is_filled(small_release, tmp_path, monkeypatch):
    """The cache is filled by threads while the configuration is read, whose parser wraps errors in its own."""
    root = shutil.copytree(small_release["data_root"], tmp_path / "release")
    read = pixels.read_grey
    monkeypatch.setattr(pixels, "read_grey", lambda path, *a, **k: (damage(path), read(path, *a, **k))[1])
    keys = small_release | {"data_root": str(root), "variant": "tiny", "image_size": 64, "cache_rate": 1.0}
    keys |= {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    check(lambda: run_bundle("phase1", "train", **keys), rf"^{root}/images/.*: cannot be read as an image")


def test_a_fault_of_the_program_keeps_its_traceback():
    @one_line_errors
    def work():
        raise RuntimeError("shapes differ") from ZeroDivisionError()

    with pytest.raises(RuntimeError, match="shapes differ"):
        work()
    wrapped = RuntimeError("applying transform")
    wrapped.__cause__ = DataError("a.png: no such file")
    assert str(mistake_in(wrapped)) == "a.png: no such file"


PLANT = """
import os, signal
from pathlib import Path
from torch.utils.data import get_worker_info
from ultrarefiner_monai.data import pixels

def plant(kills, name):
    read = pixels.read_grey
    def read_planted(path, *arguments, **named):
        if str(path).endswith(name) and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL) if kills else os.truncate(path, 100)
        return read(path, *arguments, **named)
    pixels.read_grey = read_planted
"""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [False, True])
def test_in_a_process_of_its_own(stage, stage_keys, small_release, kills, tmp_path):
    """What a user sees: exit code 1, and standard error that ends with the line and holds no traceback."""
    root = shutil.copytree(small_release["data_root"], tmp_path / "release")
    name = a_validation_picture(small_release)
    (tmp_path / "plant.py").write_text(PLANT)
    words = command(stage, **stage_keys | {"data_root": str(root), "workers": 1, "cache_rate": 0.0})
    code = "import runpy, plant; plant.plant({}, {!r}); runpy.run_module('monai.bundle', run_name='__main__')"
    words[1:3] = ["-c", code.format(kills, name)]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert ("a process that loads images" if kills else f"{name}: cannot be read") in done.stderr.splitlines()[-1]
