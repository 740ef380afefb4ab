"""Tracking in a real SQLite store, beside TensorBoard and a plain file, with servers that are not there."""

import json
import logging
import math
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ignite.engine import Events
from mlflow.tracking import MlflowClient

from ultrarefiner_monai.handlers import CompareMasks, Tracker, TrackTraining, TrackValidation
from ultrarefiner_monai.tracking.store import experiment_id, without_credentials


@pytest.fixture(autouse=True)
def leave_environment_alone(monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


@pytest.fixture
def tracker(store, tmp_path):
    def make(name="phase3-fold0", uri=store, **arguments):
        return Tracker(uri=uri, experiment="PHANTOM", run_name=name, output_dir=tmp_path / "run", **arguments)

    return make


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]


def train(make_run, tracker, output_dir, epochs=2, fail_at=None, error=None):
    run = make_run(epochs, val_handlers=[CompareMasks(output_dir, ("coarse", "refined")), TrackValidation(tracker)])
    TrackTraining(tracker, run.loss, run.optimizer).attach(run.trainer)
    if fail_at is not None:

        @run.trainer.on(Events.ITERATION_COMPLETED(once=fail_at))
        def fail(engine):
            raise error

    run.trainer.run()
    return run


def test_scores_of_classes_arrive_and_one_that_is_not_defined_breaks_nothing(make_run, items, tracker, store, tmp_path):
    """All images are of one class, so that there is no area under a curve."""
    for item in items:
        item["class"] = "benign"
    tracked = tracker()
    compare = CompareMasks(tmp_path / "run", ("mask",), classes=("benign", "malignant"))
    run = make_run(val_handlers=[compare, TrackValidation(tracked)], channels=3)
    run.evaluator.run()
    tracked.finish()
    stored = MlflowClient(store).get_run(tracked.run_id).data.metrics
    (logged,) = lines(tmp_path)
    assert math.isnan(stored["val_mask_auc"]) and logged["val_mask_auc"] is None
    for name in ("val_mask_accuracy", "val_mask_balanced_accuracy", "val_mask_dice_benign", "val_n_dice_benign"):
        assert stored[name] == pytest.approx(logged[name]) == pytest.approx(run.evaluator.state.metrics[name[4:]])


def test_a_training_arrives_in_mlflow_tensorboard_and_the_file(make_run, tracker, store, tmp_path):
    params = {"phase": 3, "sizes": {"image": 16}, "notes": "x" * 7000, "odd (name)": 1}
    csv = tmp_path / "run" / "per_image.csv"
    config = tmp_path / "config.json"
    config.write_text("{}")
    tracked = tracker(params=params, tags={"substituted.dataset": "PHANTOM"}, parent_run="abc", artifacts=[csv, config])
    run = train(make_run, tracked, tmp_path / "run")

    client = MlflowClient(store)
    found = client.get_run(tracked.run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "phase3-fold0")
    assert client.get_experiment(found.info.experiment_id).name == "PHANTOM"
    assert found.data.params["sizes.image"] == "16" and found.data.params["odd _name_"] == "1"
    assert len(found.data.params["notes"]) == 6000
    assert found.data.tags["mlflow.parentRunId"] == "abc" and found.data.tags["substituted.dataset"] == "PHANTOM"
    assert {item.path for item in client.list_artifacts(tracked.run_id)} == {"per_image.csv", "config.json"}

    metrics = found.data.metrics
    expected = {"train_loss", "train_coarse", "train_refined", "log_variance_coarse", "log_variance_refined"}
    expected |= {"weight_coarse", "weight_refined", "lr_0", "val_coarse_dice", "val_refined_dice", "val_delta_dice"}
    assert expected <= metrics.keys()
    losses = client.get_metric_history(tracked.run_id, "train_loss")
    assert [metric.step for metric in losses] == [1, 2]
    assert losses[1].value == pytest.approx(sum(run.losses[3:]) / 3, rel=1e-6)
    assert [metric.step for metric in client.get_metric_history(tracked.run_id, "val_refined_dice")] == [1, 2]
    assert metrics["weight_refined"] == pytest.approx(math.exp(-metrics["log_variance_refined"]) / 2)
    assert metrics["log_variance_refined"] == pytest.approx(float(run.loss.log_variances[1]), rel=1e-6)

    last = {key: value for line in lines(tmp_path) if line["step"] == 2 for key, value in line.items()}
    assert last["run"] == "phase3-fold0" and last["train_loss"] == losses[1].value

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert board.Scalars("train_loss")[1].value == pytest.approx(losses[1].value)
    assert [event.step for event in board.Scalars("val_refined_dice")] == [1, 2]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_training_that_ends_badly_says_so_and_raises(make_run, tracker, store, tmp_path, error, status):
    tracked = tracker()
    with pytest.raises(type(error)):
        train(make_run, tracked, tmp_path / "run", fail_at=2, error=error)
    assert MlflowClient(store).get_run(tracked.run_id).info.status == status


def test_the_data_set_is_an_input_of_the_run(tracker, store):
    tracked = tracker(data={"name": "BUSI", "digest": "0123456789abcdef" * 4, "context": "train"})
    tracked.start()
    tracked.finish()
    (found,) = MlflowClient(store).get_run(tracked.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("BUSI", "0123456789abcdef" * 2 + "0123")
    assert json.loads(found.dataset.source) == {"manifest_sha256": "0123456789abcdef" * 4}
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "train")]


@pytest.mark.parametrize(("status", "logged"), [("FINISHED", 1), ("FAILED", 0), ("KILLED", 0)])
def test_the_model_is_logged_when_the_run_has_ended_well(tracker, store, status, logged):
    calls = []
    tracked = tracker(model=lambda client, run_id: calls.append(client.get_run(run_id).info.status))
    tracked.start()
    tracked.finish(status)
    assert calls == ["FINISHED"] * logged


def test_a_model_that_cannot_be_logged_costs_one_warning(make_run, tracker, store, tmp_path, caplog):
    def log(client, run_id):
        raise OSError("No space left on device")

    tracked = tracker(model=log)
    with caplog.at_level(logging.WARNING, "ultrarefiner_monai"):
        train(make_run, tracked, tmp_path / "run")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "No space left on device" in warning
    assert MlflowClient(store).get_run(tracked.run_id).info.status == "FINISHED"


TOGETHER = """
import sys
from mlflow.tracking import MlflowClient
from ultrarefiner_monai.handlers import Tracker

tracker = Tracker(uri=sys.argv[1], experiment="PHANTOM", run_name="cv", output_dir=sys.argv[2], resume=True)
print("ready", flush=True)
sys.stdin.readline()
tracker.start()
tracker.finish()
print(tracker.run_id)
"""


def test_processes_that_begin_a_study_at_once_share_its_run(store, tmp_path):
    command = [sys.executable, "-c", TOGETHER, store, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    runs = {process.communicate(timeout=100)[0] for process in processes}
    assert len(runs) == 1 and runs != {"None\n"}


def test_a_resumed_training_continues_its_run(tracker, store):
    first = tracker(params={"epochs": 2, "fold": 0})
    first.start()
    first.log_metrics({"train_loss": 0.5}, 1)
    first.finish("KILLED")
    second = tracker("another-name", params={"epochs": 4, "fold": 0, "new": 1}, resume=True)
    second.start()
    second.log_metrics({"train_loss": 0.4}, 2)
    client = MlflowClient(store)
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "RUNNING"
    second.finish()
    data = client.get_run(first.run_id).data
    assert data.params == {"epochs": "2", "fold": "0", "new": "1"} and data.tags["resumed.epochs"] == "4"
    assert [metric.value for metric in client.get_metric_history(first.run_id, "train_loss")] == [0.5, 0.4]
    anew = tracker()
    anew.start()
    anew.finish()
    assert anew.run_id != first.run_id


def test_resuming_with_another_store_starts_a_new_run(tracker, store, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mlflow_run.json").write_text(json.dumps({"experiment": "PHANTOM", "run_id": "0" * 32}))
    tracked = tracker(resume=True)
    tracked.start()
    tracked.finish()
    assert tracked.run_id not in (None, "0" * 32)


def test_runs_overlap_without_a_global_active_run(tracker):
    import mlflow

    parent = tracker("cv")
    parent.start()
    child = tracker("fold0", parent_run=parent.run_id)
    child.start()
    parent.log_metrics({"mean_dice": 0.8}, 0)
    child.finish()
    parent.finish()
    assert mlflow.active_run() is None and parent.run_id != child.run_id


def test_undefined_numbers_are_null_in_the_file_and_nan_in_mlflow(tracker, store, tmp_path):
    tracked = tracker()
    tracked.log_metrics({"val_refined_hd95": math.nan}, 1)
    tracked.finish()
    assert lines(tmp_path)[0]["val_refined_hd95"] is None
    assert math.isnan(MlflowClient(store).get_run(tracked.run_id).data.metrics["val_refined_hd95"])


def test_a_server_that_is_absent_costs_one_warning_and_seconds(make_run, tracker, tmp_path, caplog):
    tracked = tracker(uri="http://someone:secret@127.0.0.1:9", params={"a": 1})
    with caplog.at_level(logging.WARNING, "ultrarefiner_monai"):
        train(make_run, tracked, tmp_path / "run")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "127.0.0.1:9" in warning and "secret" not in warning and "metrics.jsonl" in warning
    assert [line["step"] for line in lines(tmp_path) if "train_loss" in line] == [1, 2]
    assert tracked.run_id is None


@pytest.fixture
def server():
    """A loopback server whose answer to everything is decided by the test: seconds to wait, then status 500."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            calls.append(self.path)
            if not self.server.released.wait(self.server.delay):
                self.send_response(500)
                self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.delay, http.calls, http.released = 0.0, calls, threading.Event()
    threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True).start()
    yield http
    http.released.set()
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("delay", [0.0, 30.0])
def test_a_failing_or_silent_server_is_not_asked_at_every_epoch(tracker, server, tmp_path, monkeypatch, delay):
    server.delay = delay
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracked = tracker(uri=f"http://127.0.0.1:{server.server_port}")
    for epoch in range(1, 51):
        tracked.log_metrics({"train_loss": 1 / epoch}, epoch)
    tracked.finish()
    assert len(lines(tmp_path)) == 50 and len(server.calls) <= 3


def test_a_store_that_comes_back_gets_everything(tracker, store, tmp_path, monkeypatch, caplog):
    tracked = tracker()
    tracked.log_metrics({"train_loss": 0.9}, 1)
    send, failing = MlflowClient.log_batch, True

    def log_batch(self, *arguments, **named):
        if failing:
            raise OSError("database is locked")
        return send(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with caplog.at_level(logging.WARNING, "ultrarefiner_monai"):
        for epoch in (2, 3):
            tracked.log_metrics({"train_loss": 0.9 / epoch}, epoch)
    assert len(caplog.records) == 1
    failing = False
    tracked.finish()
    found = MlflowClient(store)
    history = found.get_metric_history(tracked.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.9), (2, 0.45), (3, 0.9 / 3)]
    assert found.get_run(tracked.run_id).info.status == "FINISHED"


def test_the_user_decides_how_long_to_wait(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    tracked = tracker()
    tracked.start()
    tracked.finish()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_artifacts_lie_beside_the_database(tracker, tmp_path, monkeypatch):
    panel = tmp_path / "panel.png"
    panel.write_bytes(b"png")
    tracked = tracker()
    tracked.log_artifact(panel, "panels")
    tracked.finish()
    stored = list((tmp_path / "mlruns_artifacts" / "PHANTOM").rglob("panel.png"))
    assert [path.parent.name for path in stored] == ["panels"]


def test_an_experiment_that_another_process_just_made_is_used():
    class Client:
        asked = 0

        def get_experiment_by_name(self, name):
            self.asked += 1
            return None if self.asked == 1 else type("Experiment", (), {"experiment_id": "7"})

        def create_experiment(self, name, artifact_location, tags):
            raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    assert experiment_id(Client(), "http://host", "BUSI") == "7"


def test_messages_hide_passwords():
    assert without_credentials("https://user:pw@host:5000/path") == "https://host:5000/path"
    assert without_credentials("sqlite:///mlruns.db") == "sqlite:///mlruns.db"


KILLED = """
import sys
from ultrarefiner_monai.handlers import Tracker
tracker = Tracker(uri=sys.argv[1], experiment="PHANTOM", run_name="left open", output_dir=sys.argv[2])
tracker.start()
raise SystemExit(130)
"""


@pytest.mark.slow
def test_a_run_left_open_is_closed_when_the_process_ends(store, tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, store, str(tmp_path / "run")], timeout=100)
    run_id = json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"]
    assert done.returncode == 130
    assert MlflowClient(store).get_run(run_id).info.status == "KILLED"


def test_pictures_are_artifacts_and_shown_in_tensorboard_by_step(tracker, store, tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked = tracker()
    for step in (3, 6):
        path = tmp_path / f"epoch{step}" / "case0.png"
        path.parent.mkdir()
        Image.new("P", (40 + step, 20)).save(path)
        tracked.log_image(path, f"panels/epoch{step}", step)
    tracked.finish()
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert [(event.step, event.width, event.height) for event in board.Images("panels/case0")] == [
        *((3, 43, 20), (6, 46, 20))
    ]
    stored = MlflowClient(store).list_artifacts(tracked.run_id, "panels/epoch6")
    assert [item.path for item in stored] == ["panels/epoch6/case0.png"]
