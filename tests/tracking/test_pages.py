"""Where MLflow compares a data set's trainings; `end_to_end/test_browser.py` looks at the page."""

import subprocess
import sys

import pytest
from mlflow import MlflowClient

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.tracking.pages import comparison_page


@pytest.fixture
def made(store):
    """A store with an experiment, and the experiment's id."""
    return store, MlflowClient(store).create_experiment("BUSBRA")


def test_the_page_of_a_data_set_and_of_all(made):
    store, number = made
    expected = f"http://a/#/experiments/{number}/runs?workflowType=machine_learning&searchFilter=tags.kind%20%3D%20%27training%27"
    assert comparison_page("http://a", store, "BUSBRA") == expected
    assert comparison_page("http://a", store) == "http://a/#/experiments"


def test_an_unknown_data_set_and_a_store_that_is_none_are_told_in_one_line(made, tmp_path):
    with pytest.raises(DataError, match=r"no runs of 'BUSBAR': did you mean 'BUSBRA'\?"):
        comparison_page("http://a", made[0], "BUSBAR")
    (tmp_path / "none.db").write_text("no database")
    with pytest.raises(DataError, match=r"none\.db is damaged or no SQLite database"):
        comparison_page("http://a", f"sqlite:///{tmp_path}/none.db", "BUSBRA")


def test_a_mistake_starts_no_server(made):
    words = [sys.executable, "-m", "ultrarefiner_monai", "ui", "BUSBAR", "--tracking_uri", made[0]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "did you mean" in done.stderr and done.stdout == ""
