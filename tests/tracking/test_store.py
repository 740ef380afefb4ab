"""Stores that do not exist yet, that cannot be opened, and that were moved: real databases, processes and servers."""

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
from alembic.script import ScriptDirectory
from mlflow.tracking import MlflowClient

from ultrarefiner_monai.cli.tools import relocate as relocate_verb
from ultrarefiner_monai.deploy.mlflow.model import example_of
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.tracking import Tracker
from ultrarefiner_monai.tracking import store as making
from ultrarefiner_monai.tracking.relocation import relocate
from ultrarefiner_monai.tracking.store import StoreError, open_store
from ultrarefiner_monai.tracking.store_checks import database_of

make_tables = making._make_tables


@pytest.fixture(autouse=True, scope="module")
def own_tables(copied_tables):
    """These tests are of the making of tables, which others copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "_make_tables", make_tables)
        yield


@pytest.mark.parametrize("empty", [False, True])
def test_a_store_whose_making_was_killed_or_an_empty_file_is_made_anew(tmp_path, empty):
    (tmp_path / ".mlruns.db.partial").write_bytes(b"half a database")
    if empty:
        (tmp_path / "mlruns.db").touch()
    client = open_store(f"sqlite:///{tmp_path / 'mlruns.db'}")
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
    assert not (tmp_path / ".mlruns.db.partial").exists()


def change(database, *statements):
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def revision(number):
    """A revision of MLflow's tables, counted back from the latest."""
    scripts = ScriptDirectory(str(Path(mlflow.__path__[0], "store", "db_migrations")))
    return [script.revision for script in scripts.walk_revisions()][number]


def older(database):
    change(database, f"UPDATE alembic_version SET version_num = '{revision(3)}'")


def half_made(database):
    change(database, f"UPDATE alembic_version SET version_num = '{revision(-3)}'", "DELETE FROM experiments")


def half_upgraded(database):
    older(database)
    change(database, "CREATE TABLE _alembic_tmp_tags (key TEXT)")


def begun(database):
    database.unlink()
    change(database, "CREATE TABLE experiments (name TEXT)")


def foreign(database):
    database.unlink()
    change(database, "CREATE TABLE patients (name TEXT)")


def folder(database):
    database.unlink()
    database.mkdir()


FAULTS = {
    "no database": (lambda database: database.write_text("notes " * 500), "damaged or no SQLite", "move the file away"),
    "cut off": (lambda database: os.truncate(database, 100_000), "damaged or no SQLite database", "restore a copy"),
    "a folder": (folder, "is a folder", "--tracking_uri"),
    "newer": (
        lambda database: change(database, "UPDATE alembic_version SET version_num = 'ffffffffffff'"),
        "of a newer MLflow (tables of revision ffffffffffff, expected ",
        "pip install --upgrade mlflow",
    ),
    "older": (older, "of an older MLflow", "mlflow db upgrade"),
    "half made": (half_made, "half made", "move the file away"),
    "half upgraded": (half_upgraded, "half made", "restore an earlier copy"),
    "just begun": (begun, "half made", "move the file away"),
    "foreign": (foreign, "another program's tables (patients)", "--tracking_uri"),
}


@contextmanager
def one_warning(caplog, uri, tmp_path):
    """A run on a store that cannot be opened: its only warning, and how long the store was asked."""
    tracker = Tracker(uri=uri, experiment="PHANTOM", run_name="r", output_dir=tmp_path / "run", params={"a": 1})
    told = []
    with caplog.at_level(logging.WARNING):
        started = time.monotonic()
        tracker.start()
        seconds = time.monotonic() - started
        for epoch in range(20):
            tracker.log_metrics({"train_loss": 1.0}, epoch)
        yield told
        tracker.finish()
    told += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert tracker.run_id is None and seconds < 60, seconds  # two on an idle machine; MLflow would try for a hundred
    assert time.monotonic() - started < 90
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_cannot_be_opened_costs_one_warning_and_stays_as_it_is(store, tmp_path, caplog, fault):
    spoil, reason, advice = FAULTS[fault]
    database = tmp_path / "mlruns.db"
    spoil(database)
    before = database.is_file() and database.read_bytes()
    with one_warning(caplog, store, tmp_path) as told:
        pass
    (warning,) = told
    assert warning.startswith(f"MLflow store {store} ") and reason in warning and advice in warning
    assert "metrics.jsonl" in warning
    assert (database.is_file() and database.read_bytes()) == before


def test_a_database_that_another_process_holds_gets_everything_later(store, tmp_path, caplog):
    holder = sqlite3.connect(tmp_path / "mlruns.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    tracker = Tracker(uri=store, experiment="PHANTOM", run_name="r", output_dir=tmp_path / "run")
    started = time.monotonic()
    tracker.log_metrics({"train_loss": 1.0}, 1)
    assert time.monotonic() - started < 60 and tracker.run_id is None
    assert [record.getMessage() for record in caplog.records if "held by another process" in record.getMessage()]
    holder.execute("ROLLBACK")
    holder.close()
    tracker.finish()
    assert MlflowClient(store).get_run(tracker.run_id).data.metrics == {"train_loss": 1.0}


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def deaf_port():
    """A port where something listens and never accepts: as slow as a host behind a wall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_a_server_that_is_not_there_or_silent_is_known_in_two_seconds(closed_port, deaf_port, tmp_path, caplog):
    with one_warning(caplog, f"http://someone:secret@127.0.0.1:{closed_port}", tmp_path / "closed") as told:
        pass
    (warning,) = told
    assert (
        f"MLflow store http://127.0.0.1:{closed_port} cannot be reached ([Errno" in warning and "secret" not in warning
    )
    caplog.clear()
    with one_warning(caplog, f"http://127.0.0.1:{deaf_port}", tmp_path / "deaf") as told:
        pass
    (warning,) = told
    assert "cannot be reached" in warning and "start it" in warning


LOCKED_OUT = """
import sys, time
import mlflow.store.tracking.sqlalchemy_store
from ultrarefiner_monai.tracking.store import StoreError, open_store

for uri in sys.argv[1:]:
    started = time.monotonic()
    try:
        open_store(uri)
    except StoreError as error:
        assert time.monotonic() - started < 60  # two seconds on an idle machine
        print(error)
"""


def test_a_place_that_cannot_be_written_to_is_named(store, tmp_path):
    root = os.geteuid() == 0
    if root and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and there is no setpriv to take that right away")
    closed, file = tmp_path / "closed", tmp_path / "mlruns.db"
    closed.mkdir()
    shutil.copy(file, closed / "old.db")
    closed.chmod(0o555)
    file.chmod(0o444)
    stores = [
        store,
        f"sqlite:///{closed / 'old.db'}",
        f"sqlite:///{closed / 'new.db'}",
        f"sqlite:///{closed / 'a/b.db'}",
    ]
    weaker = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if root else []
    command = [*weaker, sys.executable, "-c", LOCKED_OUT, *stores]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert [line.partition(" cannot be opened (")[0] for line in told] == [f"MLflow store {uri}" for uri in stores]
    assert all("readonly" in line for line in told[:2]) and all("Permission denied" in line for line in told[2:])
    assert all("writable" in line and "--tracking_uri" in line for line in told)


def test_reading_needs_no_right_to_write_and_makes_nothing(store, tmp_path):
    (tmp_path / "mlruns.db").chmod(0o444)
    assert open_store(store, recording=False).get_experiment_by_name("Default")
    assert not (tmp_path / ".mlruns.db.lock").exists()
    with pytest.raises(StoreError, match="is not there"):
        open_store(f"sqlite:///{tmp_path / 'other.db'}", recording=False)
    assert not (tmp_path / "other.db").exists()


def test_addresses_of_databases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert database_of("sqlite:///a b.db") == tmp_path / "a b.db"
    assert database_of("sqlite:////data/m.db?timeout=3") == Path("/data/m.db")
    assert database_of("sqlite:///:memory:") is database_of("http://host:5000") is database_of("sqlite://") is None
    with pytest.raises(StoreError, match=r"sqlite://m\.db is no address of a file; write sqlite:///m\.db"):
        open_store("sqlite://m.db")


@pytest.fixture
def project(training, tmp_path):
    """A project of its own: a training's folder and store, with the store's addresses, in place of the shared one."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("mlruns.db", "mlruns_artifacts"):
        source = training.folder.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    relocate(f"sqlite:///{folder / 'mlruns.db'}")
    return folder


def contents(uri):
    """Names of a store's artifacts, and the mask of its logged model, loaded from the store alone."""
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("PHANTOM").experiment_id])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)  # set_tracking_uri would leave something set for other tests
        model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    answer = model.predict(example_of(find_stage("phase1")[1]))
    return {file.path for file in client.list_artifacts(run.info.run_id)}, answer["mask"][0]


def test_a_moved_project_finds_artifacts_and_models_again(project, tmp_path, capsys):
    old = f"sqlite:///{project / 'mlruns.db'}"
    artifacts, mask = contents(old)
    assert "per_image.csv" in artifacts
    moved = project.rename(tmp_path / "else where")
    uri = f"sqlite:///{moved / 'mlruns.db'}"
    assert MlflowClient(uri).list_artifacts(next(iter(run_ids(uri)))) == []

    relocate_verb(uri)
    assert "addresses changed" in capsys.readouterr().out
    assert contents(uri) == (artifacts, mask)
    relocate_verb(uri)
    assert "all artifacts are where it says" in capsys.readouterr().out


def run_ids(uri):
    client = MlflowClient(uri)
    return {run.info.run_id for run in client.search_runs([client.get_experiment_by_name("PHANTOM").experiment_id])}


def log(uri, output_dir):
    file = output_dir.parent / "note.txt"
    file.write_text("a note")
    tracker = Tracker(uri=uri, experiment="PHANTOM", run_name="r", output_dir=output_dir)
    tracker.log_artifact(file)
    tracker.finish()
    return tracker.run_id


def test_a_run_on_a_moved_store_is_warned_and_nothing_it_wrote_is_lost(store, tmp_path, caplog):
    before = tmp_path / "project"
    before.mkdir()
    (tmp_path / "mlruns.db").rename(before / "mlruns.db")
    first = log(f"sqlite:///{before / 'mlruns.db'}", tmp_path / "first")
    assert not caplog.records
    moved = before.rename(tmp_path / "moved")
    uri = f"sqlite:///{moved / 'mlruns.db'}"

    second = log(uri, tmp_path / "second")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert str(before / "mlruns_artifacts") in warning and f"ultrarefiner relocate --tracking_uri {uri}" in warning
    left = relocate(uri).left
    assert left == [before / "mlruns_artifacts" / "PHANTOM" / second / "artifacts"]
    client = MlflowClient(uri)
    for run in (first, second):
        assert [file.path for file in client.list_artifacts(run)] == ["note.txt"]
    (left[0].parent).rename(moved / "mlruns_artifacts" / "PHANTOM" / second)
    assert relocate(uri) == (1, [])
    caplog.clear()
    third = log(uri, tmp_path / "third")
    assert not caplog.records
    for run in (first, second, third):
        assert [file.path for file in client.list_artifacts(run)] == ["note.txt"]


def test_a_copy_keeps_to_itself_once_it_is_told(store, tmp_path):
    original = tmp_path / "original"
    original.mkdir()
    (tmp_path / "mlruns.db").rename(original / "mlruns.db")
    run = log(f"sqlite:///{original / 'mlruns.db'}", tmp_path / "run")
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    assert relocate(f"sqlite:///{copy / 'mlruns.db'}").changed == 2  # an experiment and a run
    shutil.rmtree(original)
    assert [file.path for file in MlflowClient(f"sqlite:///{copy / 'mlruns.db'}").list_artifacts(run)] == ["note.txt"]


def test_a_store_without_its_artifacts_is_not_rewritten(store, tmp_path):
    log(store, tmp_path / "run")
    alone = tmp_path / "alone"
    alone.mkdir()
    database = (tmp_path / "mlruns.db").rename(alone / "mlruns.db")
    before = database.read_bytes()
    with pytest.raises(DataError, match=f"mlruns_artifacts: no such folder.*{tmp_path / 'mlruns_artifacts'}; move"):
        relocate(f"sqlite:///{database}")
    assert database.read_bytes() == before
    with pytest.raises(StoreError, match="is no SQLite database"):
        relocate("http://127.0.0.1:9")
    with pytest.raises(StoreError, match="is not there"):
        relocate(store)
