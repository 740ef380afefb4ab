"""A store that was moved or copied: MLflow keeps whole addresses of artifacts, which then point to where they were."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.tracking.store import ARTIFACTS, check_store

# Columns with addresses, of all tables that a training, its model and the registration of a model fill.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


class Relocation(NamedTuple):
    """What `relocate` has done: how many addresses it changed, and the places whose files are still where they were."""

    changed: int
    left: list[Path]


def strayed(location: str, database: Path) -> Path | None:
    """The folder that holds the artifacts of an experiment, where it was beside its database and no longer is; else None.

    Args:
        location: address of the experiment's artifacts.
        database: file of the SQLite store.
    """
    path = _path(location)
    return None if path is None else _strayed(path, {path.parent.name}, database)


def relocate(uri: str) -> Relocation:
    """Make all addresses of a SQLite store that was moved or copied point to the folder of artifacts beside it.

    The address of a run or model stays where its files are at the old place and not at the new one; nothing but addresses
    changes. Experiments always follow, so that later runs are kept beside the store.

    Args:
        uri: tracking URI of the store.

    Raises:
        DataError: it is no SQLite store, cannot be written to, or its folder of artifacts was left behind.
    """
    database = check_store(uri)
    changed, left = 0, []
    with closing(sqlite3.connect(database)) as connection, connection:  # all or nothing
        connection.execute("BEGIN IMMEDIATE")
        locations = [_path(address) for _, address in _addresses(connection, *COLUMNS[0])]
        names = {path.parent.name for path in locations if path}
        for table, column in COLUMNS:
            for row, address in _addresses(connection, table, column):
                path = _path(address)
                folder = _strayed(path, names, database) if path else None
                if path is None or folder is None:
                    continue
                place = _beside(folder, database) / path.relative_to(folder)
                if table != "experiments" and path.exists() and not place.exists():
                    left.append(path)
                    continue
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (place.as_uri(), row))
                changed += 1
    return Relocation(changed, left)


def _addresses(connection: sqlite3.Connection, table: str, column: str) -> list[tuple[int, str]]:
    return connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()


def _strayed(path: Path, names: set[str], database: Path) -> Path | None:
    """The folder above `path` that has one of the `names`, is one of artifacts, and is not beside the database."""
    folder = next((one for one in path.parents if one.name in names and one.name.endswith(ARTIFACTS)), None)
    if folder is None:
        return None
    beside = database.with_name(folder.name)
    same = folder == beside or (folder.exists() and beside.exists() and folder.samefile(beside))
    return None if same else folder


def _beside(folder: Path, database: Path) -> Path:
    """Where the content of `folder` must be to be beside the database."""
    beside = database.with_name(folder.name)
    if folder.is_dir() and not beside.is_dir():
        raise DataError(
            f"{beside}: no such folder, and the artifacts of {database} are in {folder}; "
            "move that folder beside the store, then do this again"
        )
    return beside


def _path(address: str) -> Path | None:
    """The path of a `file:` address; None of any other."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
