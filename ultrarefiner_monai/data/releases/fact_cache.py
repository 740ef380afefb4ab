"""Facts about files, kept by the files' content, so that a second build only has to hash.

An entry belongs to the bytes of a file and not to its path or date: a changed file has another hash and is read again.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

logger = logging.getLogger(__name__)

VERSION = 3  # of what is noted about a file; another version begins a file of its own
ASKED_AT_ONCE = 500  # below SQLite's lowest limit of 999 parameters a statement


def cache_folder() -> Path:
    """The user's cache folder of this package; on Linux `~/.cache/ultrarefiner_monai`, moved by `XDG_CACHE_HOME`."""
    return user_cache_path("ultrarefiner_monai", appauthor=False)


class FactCache:
    """Facts by key, in one SQLite file that several processes may share.

    A cache that cannot be read or written is no reason to stop: one warning, and everything is read anew.

    Args:
        folder: where the file lies, made when first written; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / f"facts-{VERSION}.sqlite"

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """Facts of the keys that are known."""
        if self.path is None or not self.path.is_file():
            return {}
        keys = sorted(set(keys))
        known: dict[str, Any] = {}
        try:
            with closing(self._connect(self.path)) as store:
                for start in range(0, len(keys), ASKED_AT_ONCE):
                    some = keys[start : start + ASKED_AT_ONCE]
                    marks = ",".join("?" * len(some))
                    known.update(store.execute(f"SELECT key, facts FROM facts WHERE key IN ({marks})", some).fetchall())
            return {key: json.loads(facts) for key, facts in known.items()}
        except (sqlite3.Error, TypeError, ValueError, RecursionError) as error:
            self._warn("read", error)
            return {}

    def put(self, facts: Mapping[str, Any]) -> None:
        """Note the facts of several keys."""
        if self.path is None or not facts:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect(self.path)) as store, store:
                store.execute("CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, facts TEXT NOT NULL)")
                rows = [(key, json.dumps(value)) for key, value in facts.items()]
                store.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: SQLite's own message is damaged
            self._warn("written", error)

    def _connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=30)

    def _warn(self, what: str, error: Exception) -> None:
        logger.warning("cache %s cannot be %s (%s): every file is read anew; remove it", self.path, what, error)
