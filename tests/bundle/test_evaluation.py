"""An evaluation that a signal stops leaves no record that says it still runs."""

import json
import math
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
        plan = SimpleNamespace(
            excluded=[], classes=(), labels="lesion", request=SimpleNamespace(split="test", overwrite=False)
        )
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


def test_each_score_of_classes_has_the_number_of_images_it_is_of(tmp_path):
    metrics = {
        "mask_dice": 0.5,
        "n_dice": 4,
        "mask_accuracy": 0.75,
        "mask_balanced_accuracy": 0.5,
        "mask_auc": math.nan,
    }
    metrics |= dict.fromkeys(("n_accuracy", "n_balanced_accuracy", "n_auc"), 3)
    metrics |= {"mask_dice_benign": 0.25, "n_dice_benign": 2, "mask_dice_malignant": math.nan, "n_dice_malignant": 0}
    rows = [{"id": "a", "mask_class": "benign", "mask_dice_malignant": math.nan}]
    evaluating.write_summary(tmp_path / "metrics.json", {"evaluated_on": {"images": 4}}, metrics, rows)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: (score["value"], score["n"]) for name, score in content["metrics"].items()} == {
        "mask_dice": (0.5, 4),
        "mask_accuracy": (0.75, 3),
        "mask_balanced_accuracy": (0.5, 3),
        "mask_auc": (None, 3),
        "mask_dice_benign": (0.25, 2),
        "mask_dice_malignant": (None, 0),
    }
    assert content["per_image"] == [{"id": "a", "mask_class": "benign", "mask_dice_malignant": None}]
