"""What a cross-validation shows: its own lines, each warning once, a table that fits."""

import logging
import math
import sys
from io import StringIO

import pytest

from ultrarefiner_monai.cross_validation.engines import LocalEngine, Task
from ultrarefiner_monai.cross_validation.terminal import log_to_terminal, short_table


@pytest.fixture
def shown(monkeypatch):
    """What is on the terminal so far; afterwards the loggers are as they were."""
    terminal, root, own = StringIO(), logging.getLogger(), logging.getLogger("ultrarefiner_monai")
    before = root.handlers[:], root.level, own.level
    root.handlers.clear()
    monkeypatch.setattr(sys, "stderr", terminal)
    log_to_terminal()
    yield terminal.getvalue
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def test_lines_of_trainings_stay_in_their_own_files_and_warnings_come_once(shown):
    for _ in range(2):
        logging.getLogger("ultrarefiner_monai.handlers.progress").info("train epoch 1/3")
        logging.getLogger("ignite.engine.engine.SupervisedTrainer").info("Engine run resuming")
        logging.getLogger("ultrarefiner_monai.bundle.preflight.data").warning("incomplete: %d absent", 3)
        logging.getLogger("ultrarefiner_monai.cross_validation.tasks").info("fold %d", 0)
    lines = [line[len("00:00:00 ") :] for line in shown().splitlines()]
    assert lines == ["incomplete: 3 absent", "fold 0", "fold 0"]


def test_monai_says_nothing_of_the_logging_file_that_it_is_told_to_leave(shown):
    logging.getLogger("monai.bundle.workflows").warning("Logging file is set to False, skipping logging.")
    assert shown() == ""


def test_each_task_has_a_line_as_it_begins_and_one_with_its_result_and_the_time_left(shown, monkeypatch):
    """Two trainings of 30 s each are done of three: 30 s are left. A mean takes no time and gives no estimate."""
    clock = iter([0.0, 30.0, 60.0, 61.0])
    monkeypatch.setattr("ultrarefiner_monai.cross_validation.engines.time.monotonic", lambda: next(clock))
    folds = [Task(f"fold {k}", lambda: None, gpu=True, result=lambda k=k: f"dice 0.{k}") for k in range(2)]
    rest = [Task("test", lambda: None), Task("fold 2", lambda: sys.exit("no data"), gpu=True)]
    assert LocalEngine().run([*folds, *rest]) == {"fold 2": "no data"}
    assert [line[len("00:00:00 ") :] for line in shown().splitlines()] == [
        "fold 0 begins",
        "fold 0 is done: dice 0.0 (1 of 4, about 1 min 00 s left)",
        "fold 1 begins",
        "fold 1 is done: dice 0.1 (2 of 4, about 30 s left)",
        "test is done (3 of 4, about 30 s left)",
        "fold 2 begins",
        "fold 2 is not done (4 of 4): no data",
    ]


def line(phase, fold, *dice, **more):
    named = dict(zip(("unet", "step1", "step2"), dice, strict=False))
    scores = {f"{name}_dice": value for name, value in named.items()}
    return {"phase": phase, "fold": fold, "images": 570, f"{list(named)[-1]}_hd95": 12.34} | scores | more


def test_the_table_has_the_means_and_the_test_images():
    lines = [
        *(line("unet", 0, 0.8), line("unet", 1, 0.7), line("unet", "mean", 0.75), line("unet", "sd", 0.05)),
        *(line("joint", 0, 0.8, 0.81, 0.82, delta_dice=0.02, step2_accuracy=0.7, step2_auc=0.8),),
        *(line("joint", "test", 0.8, 0.81, 0.79, delta_dice=-0.01, step2_accuracy=0.7, step2_auc=math.nan),),
    ]
    head, *rows = short_table(lines).splitlines()
    assert head.split() == ["Dice", "of", "images", "unet", "step1", "step2", "change", "HD95", "accuracy", "AUC"]
    assert [row.split() for row in rows] == [
        ["unet", "mean", "570", "0.7500"],
        ["joint", "fold", "0", "570", "0.8000", "0.8100", "0.8200", "+0.0200", "12.3", "0.7000", "0.8000"],
        ["joint", "test", "570", "0.8000", "0.8100", "0.7900", "-0.0100", "12.3", "0.7000", "–"],
    ]


def test_the_table_of_each_system_fits_a_terminal():
    of_classes = {"unet_accuracy": 0.7, "unet_auc": 0.8}
    for dice, more in (((0.8,), of_classes), ((0.8, 0.9), {"delta_dice": 0.1}), ((0.7, 0.8, 0.9), {"delta_dice": 0.2})):
        table = short_table([line("automedsam", "mean", *dice, **more), line("automedsam", "test", *dice, **more)])
        assert max(map(len, table.splitlines())) <= 80
