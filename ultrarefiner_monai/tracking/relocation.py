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
    if path is None or not path.parent.name.endswith(ARTIFACTS):
        return None
    folder, beside = path.parent, database.with_name(path.parent.name)
    same = folder == beside or (folder.exists() and beside.exists() and folder.samefile(beside))
    return None if same else folder


def relocate(uri: str) -> Relocation:
    """Make all addresses of a SQLite store that was moved or copied point to the folder of artifacts beside it.

    The address of a run or model stays where its files are at the old place and not at the new one; nothing but addresses
    changes. Experiments always follow, so that later runs are kept beside the store.

    Args:
        uri: tracking URI of the store.

    Raises:
        DataError: it is no SQLite store, cannot be written to, or its folder of artifacts is not beside it.
    """
    database = check_store(uri)
    changed, left = 0, []
    with closing(sqlite3.connect(database)) as connection, connection:  # all or nothing
        connection.execute("BEGIN IMMEDIATE")
        folders = _strayed_folders(connection, database)
        for table, column in COLUMNS:
            for row, address in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
                path = _path(address or "")
                folder = next((one for one in folders if path and path.is_relative_to(one)), None)
                if path is None or folder is None:
                    continue
                place = database.with_name(folder.name) / path.relative_to(folder)
                if table != "experiments" and path.exists() and not place.exists():
                    left.append(path)
                    continue
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (place.as_uri(), row))
                changed += 1
    return Relocation(changed, left)


def _strayed_folders(connection: sqlite3.Connection, database: Path) -> set[Path]:
    locations = [location for (location,) in connection.execute("SELECT artifact_location FROM experiments")]
    folders = {folder for location in locations if (folder := strayed(location or "", database))}
    for folder in sorted(folders):
        if not database.with_name(folder.name).is_dir():
            raise DataError(
                f"{database.with_name(folder.name)}: no such folder, and the artifacts of {database} were in {folder}; "
                "move that folder beside the store, then do this again"
            )
    return folders


def _path(address: str) -> Path | None:
    """The path of a `file:` address; None of any other."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
