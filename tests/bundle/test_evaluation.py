"""An evaluation that a signal stops leaves no record that says it still runs."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
from forking import hang, wait_for
from ignite.engine import Engine
from mlflow.tracking import MlflowClient

from ultrarefiner_monai.bundle import evaluation as evaluating
from ultrarefiner_monai.handlers import Tracker


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_evaluation_is_interrupted_and_its_mlflow_run_ended(tmp_path, monkeypatch, number, code):
    facts = {"evaluated_on": {"images": 1}}
    monkeypatch.setattr(evaluating, "load_trained", lambda plan, network: None)
    monkeypatch.setattr(evaluating, "evaluation_facts", lambda plan, split, images: facts)
    uri, out = f"sqlite:///{tmp_path / 'mlruns.db'}", tmp_path / "test"
    MlflowClient(uri).search_experiments()

    def step(engine, batch):
        (tmp_path / "running").touch()
        hang()

    def evaluate():
        evaluator = Engine(step)
        evaluator.data_loader = SimpleNamespace(dataset=[0])
        evaluator.run = lambda run=evaluator.run: run([0])
        tracker = Tracker(uri=uri, experiment="PHANTOM", run_name="test", output_dir=out)
        plan = SimpleNamespace(excluded=[], request=SimpleNamespace(split="test", overwrite=False))
        evaluating.evaluate(plan, None, tracker, evaluator)

    child = os.fork()
    if not child:
        status = 1
        try:
            evaluate()
        except SystemExit as error:
            status = error.code
        finally:
            os._exit(status)
    wait_for(tmp_path / "running", child)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    run_id = json.loads((out / "mlflow_run.json").read_text())["run_id"]
    assert MlflowClient(uri).get_run(run_id).info.status == "KILLED"
