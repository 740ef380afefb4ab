"""`metrics.jsonl`: every number of a run, a line of JSON a record, whatever becomes of MLflow."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.files import finite, parse_json

METRICS = "metrics.jsonl"


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a record, with at least its `step`, to the file in `folder`; undefined numbers become null."""
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(record)) + "\n")


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records in `folder`, in order; what is no record is left out."""
    path = folder / METRICS
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = parse_json(line)
        except (ValueError, RecursionError):  # the process was killed while it wrote
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record


def read_epochs(folder: Path) -> dict[int, dict[str, Any]]:
    """The records in `folder` by epoch, the latest where an epoch was repeated."""
    epochs: dict[int, dict[str, Any]] = {}
    for record in read_records(folder):
        epochs.setdefault(record["step"], {}).update(record)
    return epochs
