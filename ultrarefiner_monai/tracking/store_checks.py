"""Whether an MLflow store can be opened at all: asked directly, since MLflow itself tries again for minutes."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

from ultrarefiner_monai.errors import DataError, one_line, shown

PATIENCE_S = 2.0  # a server that needs longer to say that it is there would hold every epoch up
ANOTHER = "name another store with --tracking_uri"
AWAY = f"move the file away, or {ANOTHER}"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store, and for one in memory.

    Raises:
        DataError: the address is none.
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    address = make_url(uri)
    if address.host:
        raise DataError(f"is no address of a file; write sqlite:///{address.host}, or sqlite:////folder/{address.host}")
    name = address.database
    return None if not name or name.startswith((":memory:", "file:")) else Path(name).absolute()


def is_here(uri: str) -> bool:
    """Whether a store is a file or a server of this machine: asking another one tells it who asks, and MLflow's password."""
    address = urlsplit(uri)
    if address.scheme in ("http", "https"):
        with suppress(ValueError):  # a name, and no number
            return ip_address(str(address.hostname)).is_loopback
        return address.hostname == "localhost"
    return address.scheme in ("", "file", "sqlite") and not uri.startswith("databricks")


def check_server(uri: str, patience: float = PATIENCE_S) -> None:
    """Ask a server, or the database on one, for a sign of life; other kinds of store are left to MLflow.

    Raises:
        DataError: it gives none within `patience` seconds.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    ask = {"http": _ask_web, "https": _ask_web, "postgresql": _ask_database, "mysql": _ask_database}.get(scheme)
    if ask is None:
        return
    failures: list[str] = []
    asking = threading.Thread(target=_ask, args=(ask, uri, patience, failures), daemon=True)
    asking.start()
    asking.join(patience)  # a library's own timeout leaves looking the name up out
    if asking.is_alive():
        failures = [f"no answer within {patience:g} s"]
    if failures:
        raise DataError(f"cannot be reached ({failures[0]}); start it, or {ANOTHER}")


def _ask(ask: Callable[[str, float], None], uri: str, patience: float, failures: list[str]) -> None:
    try:
        ask(uri, patience)
    except Exception as error:  # each driver has its own, wrapped in those of other libraries
        root: BaseException = error
        while root.__context__ is not None:
            root = root.__context__
        failures.append(one_line(root))


def _ask_web(uri: str, patience: float) -> None:
    """Any answer will do but that of a failing server; MLflow knows what to make of passwords and certificates."""
    import requests

    with suppress(requests.exceptions.SSLError):
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=patience, allow_redirects=False)
        if answer.status_code >= 500:
            raise DataError(f"it answers with status {answer.status_code}")


def _ask_database(uri: str, patience: float) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    engine.connect().close()
    engine.dispose()


def check_database(database: Path, recording: bool) -> None:
    """Look into the file of a SQLite store before MLflow does, which fills in what seems to be missing.

    Args:
        database: the file.
        recording: whether it must be possible to write to it.

    Raises:
        DataError: no MLflow of this version can use the file; says why, and the way out.
    """
    if database.is_dir():
        raise DataError(f"is a folder; {ANOTHER}")
    if not database.exists():
        raise DataError(f"is not there; {ANOTHER}")
    place = f"file:{quote(str(database))}?mode={'rw' if recording else 'ro'}"
    try:
        with closing(sqlite3.connect(place, uri=True, timeout=PATIENCE_S, isolation_level=None)) as connection:
            if recording:
                _try_to_write(connection)
            _check_tables(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise DataError(f"is held by another process for over {PATIENCE_S:g} s; end that, or {ANOTHER}") from None
        raise DataError(f"cannot be opened ({error}); make file and folder writable, or {ANOTHER}") from None
    except sqlite3.DatabaseError as error:
        raise DataError(f"is damaged or no SQLite database ({error}); restore a copy, {AWAY}") from None


def _try_to_write(connection: sqlite3.Connection) -> None:
    """Write a number that is there already and take it back: only that needs the lock, the file and its folder."""
    connection.execute("BEGIN IMMEDIATE")
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {number:d}")
    connection.execute("ROLLBACK")


def _check_tables(connection: sqlite3.Connection) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables & {"alembic_version", "experiments"}:
        found = f"another program's tables ({shown(sorted(tables), 3)})" if tables else "no tables"
        raise DataError(f"holds {found}; {ANOTHER}")
    latest, known = _revisions()
    revision = None
    if "alembic_version" in tables:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
    if revision == latest:
        return
    if revision not in {*known, None}:
        raise DataError(
            f"is of a newer MLflow (tables of revision {revision}, expected {latest}); "
            f"install that with 'pip install --upgrade mlflow', or {ANOTHER}"
        )
    unfinished = "experiments" not in tables or any(name.startswith("_alembic_tmp_") for name in tables)
    if unfinished or connection.execute("SELECT 1 FROM experiments").fetchone() is None:
        raise DataError(
            f"is half made, creating or upgrading it was interrupted or goes on; restore an earlier copy, {AWAY}"
        )
    raise DataError(
        f"is of an older MLflow (tables of revision {revision}, expected {latest}); "
        "copy the file, then run 'mlflow db upgrade' with this address"
    )


def _revisions() -> tuple[str, set[str]]:
    """The latest revision of MLflow's tables, and all that this version knows."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__path__[0], "store", "db_migrations")))
    known = {script.revision for script in scripts.walk_revisions()}
    return str(scripts.get_current_head()), known
