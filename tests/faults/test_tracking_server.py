"""A real MLflow server that is absent, silent or failing, at the start, in the middle or at the end of a run."""

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.tracking import MlflowClient

from ultrarefiner_monai.cli.tools import track
from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.tracking import Tracker
from ultrarefiner_monai.tracking.pending import PENDING, read_pending, send_pending
from ultrarefiner_monai.tracking.store import NOTE

pytestmark = pytest.mark.fault(20)


def start_server(folder):
    """A real server on a free port of the loopback, and its address; it answers when this returns."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen([*command, "--workers", "1"], stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    while True:
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1).close()
            return process, address
        except OSError:
            threading.Event().wait(0.1)


def kill_server(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process, address = start_server(tmp_path_factory.mktemp("server"))
    yield address
    kill_server(process)


class Proxy(BaseHTTPRequestHandler):
    """Hands requests on while the server's `mode` is "up"; else answers with 500, or not at all."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.mode == "silent":
            self.server.released.wait()
        if self.server.mode != "up":
            self.send_error(500)
            return
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        asked = urllib.request.Request(self.server.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

    def log_message(self, *_):
        pass


def switch(http, mode, monkeypatch):
    """Only silence is waited for with little patience: a slow machine is no silent server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2" if mode == "silent" else "60")
    http.mode = mode
    if mode == "up":
        http.released.set()


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    http.behind, http.mode, http.released, http.daemon_threads = server, "up", threading.Event(), True
    http.switch = lambda mode: switch(http, mode, monkeypatch)
    http.switch("up")
    http.address = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=partial(http.serve_forever, poll_interval=0.01), daemon=True).start()
    yield http
    http.mode = "failing"
    http.released.set()
    http.shutdown()
    http.server_close()


def make_tracker(folder, uri, **named):
    arguments = {"experiment": "PHANTOM", "run_name": "phase1", "output_dir": folder, "params": {"fold": 0}}
    data = {"name": "PHANTOM", "digest": "0" * 64, "context": "train"}
    return Tracker(uri=uri, artifacts=[folder / "scores.csv"], data=data, **arguments | named)


def run(tracker, proxy, moment, mode):
    """Three epochs, with the server in trouble from the moment on."""
    for epoch in range(1, 4):
        if (moment, epoch) in (("start", 1), ("middle", 2)):
            proxy.switch(mode)
        tracker.log_metrics({"train_loss": 1 / epoch, "val_hd95": math.nan}, epoch)
    (tracker.output_dir / "panels").mkdir()
    (tracker.output_dir / "panels" / "a.png").write_bytes(b"png")
    if moment == "end":
        proxy.switch(mode)
    tracker.log_artifact(tracker.output_dir / "panels", "panels/epoch003")
    (tracker.output_dir / "scores.csv").write_text("id,dice\n")
    tracker.finish("FINISHED")


def check(client, folder, status="FINISHED"):
    """Everything is there, once."""
    run_id = json.loads((folder / "mlflow_run.json").read_text())["run_id"]
    found = client.get_run(run_id)
    assert (found.info.status, found.info.run_name, found.data.params["fold"]) == (status, "phase1", "0")
    history = client.get_metric_history(run_id, "train_loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert len(client.get_metric_history(run_id, "val_hd95")) == 3
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["PHANTOM"]
    assert {item.path for item in client.list_artifacts(run_id)} == {"panels", "scores.csv"}
    assert not (folder / PENDING).exists()


@pytest.mark.parametrize(
    ("mode", "moment"),
    [
        ("failing", "start"),
        ("failing", "middle"),
        ("silent", "end"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("silent", "start"), ("silent", "middle"), ("failing", "end")]
        ),
    ],
)
def test_the_numbers_are_kept_and_sent_later(proxy, tmp_path, caplog, mode, moment):
    folder = tmp_path / "run"
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        run(make_tracker(folder, proxy.address), proxy, moment, mode)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "the numbers are kept in metrics.jsonl" in warning and f"ultrarefiner track {folder}" in caplog.text
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    with pytest.raises(DataError, match=r"again later|cannot be (reached|opened)"):
        send_pending(folder, proxy.address, None)
    proxy.switch("up")
    if moment == "middle":  # the next start of the training
        resumed = make_tracker(folder, proxy.address, run_name="phase1-again", resume=True)
        resumed.start()
        resumed.finish("FINISHED")
    else:
        track(str(tmp_path), proxy.address)
    check(MlflowClient(proxy.address), folder)


def test_a_run_that_was_killed_is_ended(proxy, tmp_path, capsys):
    folder = tmp_path / "run"
    child = os.fork()
    if not child:
        tracker = make_tracker(folder, proxy.address)
        tracker.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        run(tracker, proxy, "none", "up")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    track(str(tmp_path), proxy.address)
    assert f"{folder}: sent, KILLED\n" in capsys.readouterr().out
    check(MlflowClient(proxy.address), folder, "KILLED")
    track(str(tmp_path), proxy.address)
    assert "MLflow has got everything" in capsys.readouterr().out


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_training(small_release, tmp_path, caplog, monkeypatch):
    from ignite.engine import Events

    from ultrarefiner_monai.handlers import TrackTraining

    process, address = start_server(tmp_path)
    attach = TrackTraining.attach

    def attach_and_plant(self, engine):
        attach(self, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda _: kill_server(process))

    monkeypatch.setattr(TrackTraining, "attach", attach_and_plant)
    keys = small_release | {"variant": "tiny", "image_size": 64, "batch_size": 4, "epochs": 2}
    run_bundle("phase1", "train", **keys, output_dir=str(tmp_path / "out"), tracking_uri=address)
    warnings = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    assert len(warnings) == 1 and "the numbers are kept" in warnings[0]
    uri = f"sqlite:///{tmp_path / 'server.db'}"
    client = MlflowClient(uri)
    run_id = json.loads((tmp_path / "out" / "mlflow_run.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "RUNNING"
    process, address = start_server(tmp_path)
    try:
        track(str(tmp_path / "out"), address)
    finally:
        kill_server(process)
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED" and len(found.outputs.model_outputs) == 1
    assert [metric.step for metric in client.get_metric_history(run_id, "val_coarse_dice")] == [1, 2]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"experiment": 1}', '{"names": []}'])
def test_a_damaged_note_is_no_error(tmp_path, capsys, content):
    (tmp_path / PENDING).write_text(content)
    track(str(tmp_path))
    assert "damaged; nothing sent" in capsys.readouterr().out


def test_only_files_of_the_run_are_sent(store, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "secret.txt").write_text("secret")
    tracker = make_tracker(folder, "http://127.0.0.1:9")
    tracker.start()
    tracker.finish("FINISHED")
    owed = read_pending(folder)
    owed.artifacts = [["../secret.txt", None], [str(tmp_path / "secret.txt"), None]]
    owed.write(folder)
    track(str(folder), store)
    run_id = json.loads((folder / "mlflow_run.json").read_text())["run_id"]
    assert not MlflowClient(store).list_artifacts(run_id)


def test_a_description_that_did_not_arrive_is_sent_later(store, tmp_path):
    tracker = make_tracker(tmp_path / "run", "http://127.0.0.1:9")
    tracker.describe("a table\n\n```\n1 2\n```\n")
    tracker.finish("FINISHED")
    track(str(tmp_path / "run"), store)
    run_id = json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"]
    assert MlflowClient(store).get_run(run_id).data.tags[NOTE] == "a table\n\n```\n1 2\n```\n"
