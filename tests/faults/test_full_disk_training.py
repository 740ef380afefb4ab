"""A training on a full disk ends in one line, keeps what it had, and goes on once there is space."""

from functools import partial
from pathlib import Path

import pytest
from forks import Done, forked
from small_disks import fill, make_read_only
from small_releases import TINY
from verbs import files_of

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.systems import all_stages, find_stage

WEIGHTS = ("checkpoint.pt", "model.pt", "model.json")
FIRST = [stage for stage in all_stages() if not find_stage(stage)[1].starts]  # these need no other's model


@pytest.fixture
def keys(small_release, store, tmp_path):
    """Keys of a training of the first stage, on a disk that the test mounts."""
    folders = {"output_dir": str(tmp_path / "disk" / "out"), "tracking_uri": store}
    return {**small_release, **TINY["phase1"], "batch_size": 2, **folders}


def train(stage: str, cwd: Path, limit: int | None = None, **keys: object) -> Done:
    """Train a stage in a process of its own."""
    found = find_stage(stage)[1]
    return forked(partial(run_bundle, found.bundle, *found.configs, **keys), cwd, limit)


def refused(done: Done, path: object) -> str:
    """The last line of a training that the disk has stopped."""
    line = done.err.rstrip("\n").splitlines()[-1]
    assert done.code == 1 and "Traceback" not in done.err and str(path) in line, done.err
    return line


def kept(out: Path) -> dict[str, bytes]:
    """The files that an interrupted training must not lose."""
    return {name: (out / name).read_bytes() for name in WEIGHTS}


def goes_on_after_a_full_disk(stage, keys, disk, cwd):
    """One epoch, a second one on a full disk, and the second one again with space."""
    out = Path(keys["output_dir"])
    assert train(stage, cwd, **keys, epochs=1).code == 0
    before = kept(out)
    filler = fill(disk, room=20_000)
    line = refused(train(stage, cwd, **keys, epochs=2, resume=True), out / "checkpoint.pt")
    assert "MiB needed" in line and "free disk space" in line
    assert kept(out) == before and not list(out.glob(".*.partial"))
    filler.unlink()
    done = train(stage, cwd, **keys, epochs=2, resume=True)
    assert done.code == 0 and read_torch(out / "checkpoint.pt")["epoch"] == 2, done.err


@pytest.mark.fault(3)
def test_a_checkpoint_without_space(keys, small_disk, tmp_path):
    goes_on_after_a_full_disk("phase1", keys, small_disk("64m"), tmp_path)


@pytest.mark.slow
@pytest.mark.fault(3)
def test_a_checkpoint_of_every_stage_without_space(stage, stage_keys, small_disk, tmp_path):
    disk = small_disk("256m")
    goes_on_after_a_full_disk(stage, stage_keys | {"output_dir": str(disk / "out")}, disk, tmp_path)


@pytest.mark.fault(3)
def test_a_file_that_may_not_grow(keys, tmp_path):
    """As on a full disk, where no file system may be mounted; the first file of the training."""
    refused(train("phase1", tmp_path, limit=0, **keys), tmp_path / "disk" / "out")
    assert not [name for name in files_of(tmp_path / "disk") if name.endswith((".pt", ".json"))]


@pytest.mark.fault(3)
def test_a_folder_that_is_read_only(keys, small_disk, tmp_path):
    disk = small_disk("1m")
    make_read_only(disk)
    refused(train("phase1", tmp_path, **keys), disk / "out")
