"""What run.json, run.log and the last table say of runs that end well, badly, or not at all."""

import json
import logging
import math

import pytest
from ignite.engine import Events

from ultrarefiner_monai.handlers import RunReport
from ultrarefiner_monai.handlers.run_report import PACKAGE_LOG, final_table
from ultrarefiner_monai.tracking.metrics_file import append_record, read_epochs

FACTS = {"kind": "training", "phase": "phase3", "fold": 0}


@pytest.fixture(autouse=True)
def lines_of_the_package(monkeypatch):
    monkeypatch.setattr(PACKAGE_LOG, "level", logging.INFO)


def report(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def start(make_run, folder, epochs=2, do=lambda: None, **arguments):
    run = make_run(epochs)
    RunReport(folder, FACTS, **arguments).attach(run.trainer)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda _: do())
    run.trainer.run()


def test_a_finished_run_is_reported_with_its_warnings_and_files(make_run, tmp_path):
    states = []

    def do():
        states.append(report(tmp_path)["status"])
        PACKAGE_LOG.warning("left out: %s", "é.png")
        (tmp_path / "panels").mkdir()

    start(make_run, tmp_path, do=do, results=lambda: {"epochs": {"done": 2, "planned": 2}})
    found = report(tmp_path)
    assert states == ["running"]
    assert found | FACTS == found
    assert (found["status"], found["error"], found["warnings"]) == ("finished", None, ["left out: é.png"])
    assert found["epochs"] == {"done": 2, "planned": 2} and 0 <= found["seconds"] < 60
    assert found["files"] == ["images", "panels", "run.json", "run.log"]
    assert found["versions"]["torch"] and found["versions"]["ultrarefiner_monai"]
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "WARNING ultrarefiner_monai: left out: é.png" in log and "run_report: finished after " in log
    PACKAGE_LOG.warning("after the end")
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == log


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SystemExit(143), "interrupted", "SystemExit: 143"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt:"),
        (RuntimeError("two\nlines"), "failed", "RuntimeError: two lines"),
    ],
)
def test_a_run_that_ends_badly_says_how(make_run, tmp_path, error, status, said):
    def do():
        raise error

    with pytest.raises(type(error)):
        start(make_run, tmp_path, do=do)
    assert (report(tmp_path)["status"], report(tmp_path)["error"]) == (status, said)
    assert not [handler for handler in PACKAGE_LOG.handlers if isinstance(handler, logging.FileHandler)]


def test_a_run_that_may_not_start_leaves_the_report_that_is_there(make_run, tmp_path):
    (tmp_path / "run.json").write_text("another's")
    run = make_run(1)
    run.trainer.add_event_handler(Events.STARTED, lambda _: 1 / 0)
    RunReport(tmp_path, FACTS).attach(run.trainer)
    with pytest.raises(ZeroDivisionError):
        run.trainer.run()
    assert (tmp_path / "run.json").read_text() == "another's" and len(list(tmp_path.glob("run.*"))) == 1


def test_a_resumed_run_adds_to_the_log(make_run, tmp_path):
    for _ in range(2):
        start(make_run, tmp_path, epochs=1)
    assert (tmp_path / "run.log").read_text(encoding="utf-8").count("finished after") == 2


def test_the_last_table_shows_the_best_and_the_last_epoch(make_run, tmp_path, caplog):
    for epoch, dice in enumerate((0.5, 0.75, 0.7, 0.9), start=1):  # the fourth is of an earlier, longer run
        numbers = {"val_coarse_dice": 0.5, "val_refined_dice": dice, "val_delta_dice": dice - 0.5}
        distance = (
            {"val_refined_hd95": math.nan, "val_n_hd95": 0} if epoch == 3 else {"val_refined_hd95": 12, "val_n_hd95": 5}
        )
        append_record(tmp_path, {"step": epoch, **numbers, **distance})
    ended = {"epochs": {"done": 3, "planned": 3}, "best": {"metric": "refined_dice", "value": 0.75, "epoch": 2}}
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        start(make_run, tmp_path, epochs=1, results=lambda: ended)
    assert caplog.messages[-1].splitlines()[1:] == [
        "epoch       coarse_dice refined_dice refined_hd95 delta_dice  n_hd95",
        "best     2       0.5000       0.7500      12.0000     0.2500       5",
        "last     3       0.5000       0.7000    undefined     0.2000       0",
    ]


@pytest.mark.parametrize(
    ("outputs", "head"),
    [(["mask"], "mask_dice"), (["unet", "step1", "step2"], "unet_dice step1_dice step2_dice delta_dice")],
)
def test_the_last_table_shows_whatever_outputs_there_are(outputs, head):
    numbers = {f"val_{output}_dice": i / 4 for i, output in enumerate(outputs)}
    if len(outputs) > 1:
        numbers["val_delta_dice"] = 0.5
    lines = final_table({"best": {"epoch": 1}, "epochs": {"done": 1}}, {1: {"val_loss": 2.0, **numbers}}).splitlines()
    assert lines[0].split() == ["epoch", *head.split()]
    assert lines[1].split() == ["best", "1", *(f"{value:.4f}" for value in numbers.values())]


def test_the_last_table_ends_with_the_scores_of_classes():
    numbers = {
        "val_mask_dice": 0.5,
        "val_mask_accuracy": 0.75,
        "val_mask_balanced_accuracy": 0.625,
        "val_mask_auc": None,
    }
    lines = final_table({"best": {"epoch": 1}, "epochs": {"done": 1}}, {1: numbers}).splitlines()
    assert lines[0].split() == ["epoch", "mask_dice", "mask_accuracy", "mask_balanced_accuracy", "mask_auc"]
    assert lines[1].split() == ["best", "1", "0.5000", "0.7500", "0.6250", "undefined"]


def test_a_trained_run_names_the_scores_of_classes_of_its_best_epoch(class_cv):
    folder = class_cv.folder("automedsam", 0)
    best, logged = report(folder)["best"], read_epochs(folder)[1]
    names = ("mask_accuracy", "mask_balanced_accuracy", "mask_auc", "mask_dice_benign", "mask_dice_malignant")
    assert list(best) == ["metric", "value", "epoch", *names]
    assert {name: best[name] for name in names} == {name: logged[f"val_{name}"] for name in names}


@pytest.mark.parametrize("best", [None, {"epoch": 9}])
def test_there_is_no_table_without_a_validation(best):
    assert final_table({"best": best, "epochs": {"done": 1}}, {1: {"train_loss": 0.5}}) == ""
