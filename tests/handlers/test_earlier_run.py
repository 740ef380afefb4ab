"""What a training finds in its output folder: refused, gone on with or removed, as asked."""

import json

import pytest

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.earlier_run import DONE, has_work, refuse_work, remove_work


@pytest.fixture
def finished(tmp_path):
    for name in ("model.pt", "checkpoint.pt", "metrics.jsonl", "run.log", "model.json", DONE, "mine.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "predictions").mkdir()
    report = {"status": "finished", "epochs": {"done": 12, "planned": 12}}
    (tmp_path / "run.json").write_text(json.dumps(report))
    return tmp_path


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"status": "finished", "epochs": {"done": 12, "planned": 12}}, "a finished training of 12 of 12 epochs"),
        ({"status": "interrupted", "epochs": {"done": 3, "planned": 12}}, "a training of 3 of 12 epochs"),
        ({"status": "running", "epochs": {"done": 3, "planned": 12}}, "a training of 3 of 12 epochs"),
        ({}, "a trained model"),
    ],
)
def test_work_is_refused_by_what_it_is(report, said, finished):
    (finished / "run.json").write_text(json.dumps(report))
    with pytest.raises(DataError) as caught:
        refuse_work(finished, resume=False, overwrite=False)
    assert str(caught.value) == (
        f"{finished}: holds {said}; go on with it by --resume true, replace it by --overwrite true, or name another "
        "--output_dir"
    )


@pytest.mark.parametrize("name", ["model.pt", "checkpoint.pt", "checkpoint.previous.pt"])
def test_one_epoch_is_work(name, tmp_path):
    assert not has_work(tmp_path / "absent")
    (tmp_path / name).touch()
    assert has_work(tmp_path)


def test_a_folder_without_an_epoch_is_free(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "failed", "epochs": {"done": 0, "planned": 12}}')
    refuse_work(tmp_path, resume=False, overwrite=False)


def test_either_key_lets_it_begin_and_both_contradict_each_other(finished):
    refuse_work(finished, resume=True, overwrite=False)
    refuse_work(finished, resume=False, overwrite=True)
    with pytest.raises(DataError, match="resume goes on with what overwrite removes"):
        refuse_work(finished, resume=True, overwrite=True)


def test_what_is_removed_is_the_trainings_own(finished):
    remove_work(finished)
    assert sorted(path.name for path in finished.iterdir()) == ["mine.txt", "predictions"]
