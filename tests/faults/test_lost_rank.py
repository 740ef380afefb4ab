"""Two processes train together: what one does when the other dies, fails or freezes, and equal metrics."""

import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import torch.distributed as dist
from mlflow.tracking import MlflowClient
from stage_trainings import command

from ultrarefiner_monai import peers
from ultrarefiner_monai.peers import PeerError, Peers
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems import find_stage

pytestmark = pytest.mark.fault(22)

PLANT = """
import os, runpy, signal, sys, time
from pathlib import Path
from ignite.engine import Events
from ultrarefiner_monai.bundle import training

def act():
    if os.environ["RANK"] != "{rank}":
        return
    Path("{folder}", "planted").write_text(str(time.time()))
    if "{what}" == "raise":
        raise ZeroDivisionError("planted")
    os.kill(os.getpid(), getattr(signal, "{what}"))

begin = training.end_with_peers
def begin_and_plant(trainer, tracker, folder):
    begin(trainer, tracker, folder)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), act)
training.end_with_peers = begin_and_plant
try:
    runpy.run_module("monai.bundle", run_name="__main__")
finally:
    Path("{folder}", "ended" + os.environ["RANK"]).touch()
"""


def torchrun(stage, keys, folder, script=None):
    """The command that trains a stage with two processes."""
    _, found = find_stage(stage)
    configs = [str(BUNDLES / found.bundle / "configs" / f"{name}.json") for name in (*found.configs, "multi_gpu_train")]
    words = command(stage, **keys)[4:]
    words[words.index("--config_file") + 1] = str(configs)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [*start, *([str(script)] if script else ["-m", "monai.bundle"]), "run", *words]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "what", "said"),
    [
        (1, "SIGKILL", "rank 1 has died"),
        (0, "SIGKILL", "rank 0 has died"),
        (1, "raise", "rank 1 has failed (ZeroDivisionError: planted)"),
        (1, "SIGSTOP", "rank 1 has given no sign of life for 20 s"),
        (0, "SIGSTOP", "rank 0 has given no sign of life for 20 s"),
    ],
)
def test_the_survivor_ends_and_tells(stage, stage_keys, tmp_path, rank, what, said):
    script = tmp_path / "plant.py"
    script.write_text(PLANT.format(rank=rank, what=what, folder=tmp_path))
    command = torchrun(stage, {**stage_keys, "epochs": 3}, tmp_path, script)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
        try:
            assert process.wait(timeout=200) == 1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = (tmp_path / "log").read_text()
    assert said in text, text[-3000:]
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["status"] == "failed" and said in report["error"]
    planted = float((tmp_path / "planted").read_text())
    assert (tmp_path / "out" / "run.json").stat().st_mtime - planted < 60
    run_id = json.loads((tmp_path / "out" / "mlflow_run.json").read_text())["run_id"]
    assert MlflowClient(stage_keys["tracking_uri"]).get_run(run_id).info.status == "FAILED"


@pytest.mark.slow
def test_two_processes_score_as_one(stage, stage_keys, tmp_path):
    """Trained together, the model gets the same scores from one process as it got from two: nothing padded is counted."""
    done = subprocess.run(
        torchrun(stage, stage_keys, tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    together = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    from ultrarefiner_monai.cross_validation.tasks import run_bundle

    _, found = find_stage(stage)
    keys = {key: value for key, value in stage_keys.items() if key not in found.starts}  # those of a cascade
    keys |= {"split": "val", "checkpoint": str(tmp_path / "out" / "model.pt")}
    alone = run_bundle(found.bundle, "evaluate", **keys).evaluator.state.metrics
    told = {name: value for record in together for name, value in record.items() if name.startswith("val_")}
    scores = {name[4:]: math.nan if value is None else value for name, value in told.items()}
    assert scores and {name: alone[name] for name in scores} == pytest.approx(scores, rel=1e-5, nan_ok=True)


@pytest.fixture
def members(monkeypatch):
    """Two members of a training in this process, without threads: each has its own connection to one store."""
    monkeypatch.setattr(peers.threading.Thread, "start", lambda self: None)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return [Peers(store.clone(), rank, 2) for rank in (0, 1)], store


def test_how_another_ended_is_known_by_its_note(members):
    (first, second), _ = members
    assert first.ending_of_another(0) is None
    second.note(ZeroDivisionError("planted"))
    found = first.ending_of_another()
    assert isinstance(found, PeerError) and not found.is_gone
    assert str(found).startswith("rank 1 has failed (ZeroDivisionError: planted), and the training with it; ")
    second.note(SystemExit(143))
    assert first.ending_of_another().code == 143
    second.note(SystemExit(0))
    assert first.ending_of_another(0) is None


def test_one_that_died_left_no_note(members, fork):
    (first, _), store = members
    child = fork(lambda: None)
    store.set("process/1", json.dumps([peers.socket.gethostname(), child]))
    assert first.ending_of_another(0) is None  # not yet waited for, as while torchrun has not looked
    os.waitpid(child, 0)
    assert str(first.ending_of_another()).startswith("rank 1 has died, ")


def test_silence_is_counted_in_turns_and_not_by_a_clock(members, monkeypatch):
    (first, _), store = members
    ends = []
    monkeypatch.setattr(first, "_end", ends.append)
    for _ in range(30):  # has not begun to beat: it may still be importing
        first._listen(store, 1)
    store.add("beat/1", 1)
    for _ in range(20):
        first._listen(store, 1)
    assert not ends
    store.add("beat/1", 1)
    for _ in range(21):
        first._listen(store, 1)
    assert [str(end).partition(",")[0] for end in ends] == ["rank 1 has given no sign of life for 20 s"]
    first.note(SystemExit(0))
    store.set("note/1", '[0, ""]')
    first._listen(store, 1)
    assert len(ends) == 1  # it is done


def test_a_process_alone_has_no_peers():
    error = RuntimeError("a fault of the program")
    assert peers.peers() is None and peers.explained(error) is error
