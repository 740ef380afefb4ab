"""Numbers of a run by epoch, as they were written."""

import math

from ultrarefiner_monai.tracking.metrics_file import METRICS, append_record, read_epochs


def test_records_of_an_epoch_come_together_and_undefined_numbers_are_null(tmp_path):
    append_record(tmp_path, {"step": 1, "train_loss": 0.5})
    append_record(tmp_path, {"step": 1, "val_coarse_hd95": math.nan, "name": "é"})
    append_record(tmp_path, {"step": 2, "train_loss": math.inf})
    assert read_epochs(tmp_path) == {
        1: {"step": 1, "train_loss": 0.5, "val_coarse_hd95": None, "name": "é"},
        2: {"step": 2, "train_loss": None},
    }


def test_a_repeated_epoch_counts_as_it_was_last_and_half_a_line_not_at_all(tmp_path):
    append_record(tmp_path, {"step": 1, "train_loss": 0.5})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 1, "train_lo\n')
    append_record(tmp_path, {"step": 1, "train_loss": 0.4})
    assert read_epochs(tmp_path) == {1: {"step": 1, "train_loss": 0.4}}


def test_no_file_is_no_epoch(tmp_path):
    assert read_epochs(tmp_path) == {}


def test_lines_of_other_json_are_no_records(tmp_path):
    append_record(tmp_path, {"step": 1, "train_loss": 0.5})
    with (tmp_path / METRICS).open("a") as file:
        file.write('[1, 2]\n3\n{"train_loss": 0.1}\n{"step": null}\n')
    assert read_epochs(tmp_path) == {1: {"step": 1, "train_loss": 0.5}}
