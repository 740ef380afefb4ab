"""`metrics.jsonl`: every number of a run, a line of JSON a record, whatever becomes of MLflow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.files import finite

METRICS = "metrics.jsonl"


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a record, with at least its `step`, to the file in `folder`; undefined numbers become null."""
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(record)) + "\n")


def read_epochs(folder: Path) -> dict[int, dict[str, Any]]:
    """The records in `folder` by epoch, the latest where an epoch was repeated; what is no record is left out."""
    path = folder / METRICS
    epochs: dict[int, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # the process was killed while it wrote, or somebody else did
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            epochs.setdefault(record["step"], {}).update(record)
    return epochs
