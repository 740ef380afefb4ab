"""MLflow's store: made by one process, whole or not at all, and known to be unusable within seconds."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout

from ultrarefiner_monai.errors import DataError, one_line
from ultrarefiner_monai.shipped import project_root
from ultrarefiner_monai.tracking.store_checks import (
    ANOTHER,
    PATIENCE_S,
    check_database,
    check_server,
    database_of,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PROCESS_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds; MLflow's 120 s and 7 retries would hold a training up for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the queue is sent again later anyway, and without a warning each time
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing about a medical project leaves the machine unasked
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar a file, in the middle of the training's own
}
DATABASE_LOG = "mlflow.store.db.utils"  # logs a traceback for each error that it raises, which is told in one line
ARTIFACTS = "_artifacts"  # ends the name of the folder beside a database
NOTE = "mlflow.note.content"  # tag of the description of a run or an experiment, in Markdown
DESCRIPTION = (
    "Trainings on the data set {name}. A cross-validation is one run, with its table as description; its folds are runs below. "
    "`val_*` are scores of validation images by epoch; `*_mean`, `*_sd` and `*_test` of a cross-validation are those over folds "
    "and of the test images, by the weights that were kept."
)
OPENING_S = 60.0  # of waiting for another process that makes the database, which takes it two seconds


class StoreError(DataError):
    """A store that cannot be opened; `reason` is what the message says between the store's name and the way out."""

    reason = ""


def store_uri(uri: str | None = None, project: Path | None = None) -> str:
    """MLflow store: `uri`, else `MLFLOW_TRACKING_URI`, else `mlruns.db` of `project`, by default the one that we are in."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(project or project_root()) / 'mlruns.db'}"


def open_store(uri: str, recording: bool = True) -> "MlflowClient":
    """A client of the store at `uri`, which has all its tables by then.

    An absent SQLite database is made by one process while others wait, and under another name first: MLflow's migrations
    are no transaction, and two at once, or one that is killed, leave a database that never opens again.

    Args:
        uri: tracking URI.
        recording: make a database that is absent, and insist that it can be written to.

    Raises:
        StoreError: the store cannot be opened; says which, why, and the way out.
    """
    for key, value in PROCESS_DEFAULTS.items():
        os.environ.setdefault(key, value)
    logging.getLogger(DATABASE_LOG).setLevel(logging.CRITICAL)
    with _told(uri):
        database = database_of(uri)
        if database is None:
            check_server(uri, _patience())
        else:
            if recording and _is_absent(database):
                _create(uri, database)
            check_database(database, recording)
        return _opened(uri)


def check_store(uri: str) -> Path:
    """The file of an existing SQLite store that can be written to.

    Raises:
        StoreError: it is none; says why, and the way out.
    """
    with _told(uri):
        database = database_of(uri)
        if database is None:
            raise DataError("is no SQLite database; write sqlite:///FILE")
        check_database(database, recording=True)
        return database


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Make one line, with the store's name, of whatever goes wrong."""
    try:
        yield
    except DataError as error:
        raise _error(uri, str(error)) from None
    except Timeout:
        raise _error(uri, f"has been in the making by another process for {OPENING_S:.0f} s; {ANOTHER}") from None
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise _error(
            uri, f"cannot be opened ({reason}: {error.filename}); make its folder writable, or {ANOTHER}"
        ) from None
    except Exception as error:  # each kind of store has its own
        raise _error(uri, f"cannot be opened ({one_line(error)}); {ANOTHER}") from None


def _error(uri: str, text: str) -> StoreError:
    error = StoreError(without_credentials(f"MLflow store {uri} {text}"))
    error.reason = without_credentials(text.partition(";")[0])
    return error


def _patience() -> float:
    """Seconds to wait for a server's first answer: two, or what the user allows a request."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    return PATIENCE_S if os.environ[name] == PROCESS_DEFAULTS[name] else float(os.environ[name])


def _is_absent(database: Path) -> bool:
    return not database.exists() or (database.is_file() and database.stat().st_size == 0)


def _create(uri: str, database: Path) -> None:
    """Make the database unless another process is faster."""
    folder = database.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    with FileLock(database.with_name(f".{database.name}.lock"), timeout=OPENING_S):
        if _is_absent(database):
            partial = database.with_name(f".{database.name}.partial")
            partial.unlink(missing_ok=True)  # of a process that was killed
            _make_tables(uri, partial, artifacts_folder(database))
            partial.replace(database)


def _make_tables(uri: str, database: Path, artifacts: Path) -> None:
    """An empty database of MLflow with all its tables, by its own migrations, and with the options of `uri`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # seconds, which others need not wait for
    from sqlalchemy.engine import make_url

    SqlAlchemyStore(str(make_url(uri).set(database=str(database))), artifacts.as_uri()).engine.dispose()


def _opened(uri: str) -> "MlflowClient":
    from mlflow.tracking import MlflowClient  # over a second: only a process that tracks pays for it

    client = MlflowClient(uri)
    client.search_experiments(max_results=1)  # opens it
    return client


def artifacts_folder(database: Path) -> Path:
    """Where the artifacts of a SQLite database lie: beside it (MLflow would use the working directory)."""
    return database.with_name(f"{database.stem}{ARTIFACTS}")


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Id of the experiment `name`, created where needed, also when another process creates it at the same moment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            tags = {NOTE: DESCRIPTION.format(name=name)}
            return client.create_experiment(name, artifact_location(uri, name), tags)
        except Exception:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def artifact_location(uri: str, experiment: str) -> str | None:
    """Folder for an experiment's artifacts beside a SQLite database; None: the server's."""
    database = database_of(uri)
    return None if database is None else (artifacts_folder(database) / quote(experiment, safe=" ")).as_uri()


def without_credentials(text: str) -> str:
    """The text with `user:password@` taken out of every address in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)
