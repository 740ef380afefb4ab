"""A short training of any stage of any registered system, in this process or in a child of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_releases import TINY, TINY_OF_OTHERS

from ultrarefiner_monai.cross_validation.tasks import config_files
from ultrarefiner_monai.systems import all_stages, find_stage


@pytest.fixture(params=all_stages())
def stage(request) -> str:
    """Each stage of each registered system in turn."""
    return request.param


@pytest.fixture
def stage_keys(stage, request, small_release, tmp_path) -> dict[str, Any]:
    """Keys of a training of one epoch of four steps of `stage` into `tmp_path / "out"`, which starts from the small study."""
    _, found = find_stage(stage)
    cv = request.getfixturevalue("cv_of")(stage) if found.starts or found.feeds else None
    starts = {key: str(cv.folder(name, 0) / "model.pt") for key, name in found.starts.items()}
    feeds = {key: str(cv.out / name) for key, name in found.feeds.items()}
    folders = {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    return {**small_release, **(TINY | TINY_OF_OTHERS)[stage], "batch_size": 2, **starts, **feeds, **folders}


def command(stage: str, **keys: Any) -> list[str]:
    """The command line that trains `stage`, as a user would type it."""
    _, found = find_stage(stage)
    files = config_files(found.bundle, *found.configs)
    config = files[0] if len(files) == 1 else str(files)
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", config] + [
        part for key, value in keys.items() for part in (f"--{key}", str(value))
    ]


def run_command(stage: str, cwd: Path, **keys: Any) -> subprocess.CompletedProcess:
    """Run it to its end; exit code and both outputs."""
    return subprocess.run(command(stage, **keys), cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
