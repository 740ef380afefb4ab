"""A training on a full disk ends in one line, keeps what it had, and goes on once there is space."""

import ctypes
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from forks import Done, forked
from small_disks import fill, make_read_only, mount
from small_releases import TINY
from verbs import files_of, run_verb, words_of

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.models.weights import CheckpointError, read_torch, save_model
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.tracking.metrics_file import read_epochs

SKIP = 77  # the exit status of a child that may not mount


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


def kept(out: Path) -> bytes:
    """The checkpoint; the best model may be that of the new epoch, and is whole beside its own card."""
    assert json.loads((out / "model.json").read_text())["sha256"] == file_sha256(out / "model.pt")
    return (out / "checkpoint.pt").read_bytes()


def goes_on_after_a_full_disk(stage, keys, disk, cwd):
    """One epoch, a second one on a full disk, and the second one again with space."""
    out = Path(keys["output_dir"])
    assert train(stage, cwd, **keys).code == 0
    before, further = kept(out), keys | {"epochs": 2, "resume": True}
    filler = fill(disk, room=(out / "checkpoint.pt").stat().st_size // 2)
    line = refused(train(stage, cwd, **further), out / "checkpoint.pt")
    assert "MiB needed" in line and "free disk space" in line
    assert kept(out) == before and not list(out.glob(".*.partial"))
    filler.unlink()
    done = train(stage, cwd, **further)
    assert done.code == 0 and read_torch(out / "checkpoint.pt")["epoch"] == 2, done.err


@pytest.mark.fault(3)
@pytest.mark.parametrize("pages", [0, 1])
def test_new_weights_never_lie_beside_an_old_card(pages, small_disk):
    """There is room for the weights and for nothing else, or for not even them."""
    disk = small_disk("1m")
    path = save_model(torch.nn.Linear(100, 100), disk / "model.pt", {"epoch": 1})
    before = files_of(disk)
    filler = fill(disk, room=-(-path.stat().st_size // 4096) * 4096 - 4096 * pages)
    with pytest.raises((CheckpointError, OSError), match="No space left"):
        save_model(torch.nn.Linear(100, 100), path, {"epoch": 2})
    filler.unlink()
    assert files_of(disk) == before


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
    """As on a full disk, where no file system may be mounted."""
    refused(train("phase1", tmp_path, limit=20_000, **keys), tmp_path / "disk" / "out")
    assert not [name for name in files_of(tmp_path / "disk") if name.endswith(".pt")]


@pytest.mark.fault(3)
def test_a_folder_that_is_read_only(keys, small_disk, tmp_path):
    disk = small_disk("1m")
    make_read_only(disk)
    refused(train("phase1", tmp_path, **keys), disk / "out")


@pytest.mark.fault(3)
def test_a_store_without_space(keys, small_disk, tmp_path):
    """The training goes on; its numbers are in the other files."""
    disk = small_disk("1m")
    shutil.copyfile(keys["tracking_uri"].removeprefix("sqlite:///"), disk / "mlruns.db")
    fill(disk)
    folders = {"output_dir": str(tmp_path / "out"), "tracking_uri": f"sqlite:///{disk / 'mlruns.db'}"}
    done = train("phase1", tmp_path, **keys | folders)
    assert done.code == 0 and "Traceback" not in done.out + done.err, done
    assert len(read_epochs(tmp_path / "out")) == 1


def in_small_shared_memory(room, work):
    """Do `work` where /dev/shm is a disk of its own, with `room` bytes."""
    new_mounts = 0x20000  # CLONE_NEWNS of sched.h
    if ctypes.CDLL(None).unshare(new_mounts) or not mount("--make-rprivate", "/"):
        raise SystemExit(SKIP)
    if not mount("-t", "tmpfs", "-o", f"size={room}", "tmpfs", "/dev/shm"):
        raise SystemExit(SKIP)
    if room == "4k":
        fill(Path("/dev/shm"))
    work()


@pytest.mark.fault(3)
@pytest.mark.parametrize("room", ["4k", "160k"])
def test_shared_memory_that_is_full(room, keys, tmp_path):
    """None for a lock, and too little for the pictures that data workers hand over."""
    keys |= {"output_dir": str(tmp_path / "out"), "workers": 2, "batch_size": 4}
    done = forked(partial(in_small_shared_memory, room, partial(run_bundle, "phase1", "train", **keys)), tmp_path)
    if done.code == SKIP:
        pytest.skip("this user may not mount a file system over /dev/shm")
    line = refused(done, "shared memory")
    assert "--workers 0" in line


@pytest.fixture
def store_elsewhere(store, monkeypatch):
    """MLflow's store lies on another disk than the study."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)


STUDIES = ["cv", pytest.param("quickstart", marks=pytest.mark.slow)]


@pytest.mark.fault(26)
@pytest.mark.usefixtures("store_elsewhere")
@pytest.mark.parametrize("verb", STUDIES)
def test_a_study_on_a_full_disk(verb, given, small_disk, tmp_path):
    """Refused at once: the space is counted first."""
    disk = small_disk("1m")
    fill(disk)
    done = run_verb(words_of(verb, given, disk), tmp_path)
    assert "GiB of disk space" in refused(done, disk)
    assert files_of(disk).keys() == {"filler"}


@pytest.mark.fault(26)
@pytest.mark.usefixtures("store_elsewhere")
@pytest.mark.parametrize("verb", STUDIES)
def test_a_study_in_a_read_only_folder(verb, given, small_disk, tmp_path):
    disk = small_disk("1g")
    make_read_only(disk)
    refused(run_verb(words_of(verb, given, disk), tmp_path), disk / "results")
    assert not files_of(disk)
