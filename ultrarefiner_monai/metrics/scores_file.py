"""`per_image.csv`: the scores of every image, a line each, as evaluations, trainings and cross-validations write it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import regular, write_atomically
from ultrarefiner_monai.metrics.classes import FOUND, needed_columns
from ultrarefiner_monai.metrics.scores import Row, outputs_of
from ultrarefiner_monai.texts import csv_text, csv_value, printable

PER_IMAGE = "per_image.csv"
NAMES = (
    "dataset",
    "id",
    "image",
    "patient",
    "class",
    "phase",
    "unit",
    "prompts",
)  # columns of text, with those of found classes
NEEDED = {"patient", "class"}  # beside the Dice of an output


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV, atomically; columns as in the first row."""
    write_atomically(path, csv_text(rows, list(rows[0]) if rows else ["id"]).encode())


def read_rows(path: Path) -> list[Row]:
    """The rows of a `per_image.csv`; folds are numbers, other texts stay what they are, empty numbers are NaN.

    Raises `DataError` where the file is absent, unreadable or no such table.
    """
    try:
        with regular(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or ()
            if not (set(names) >= NEEDED and outputs_of(names)):
                raise DataError(f"{path}: expected columns such as patient, class and <output>_dice, found others")
            if missing := sorted(needed_columns(names) - {*names}):
                raise DataError(
                    f"{path}: expected a column {printable(missing[0])} beside those of classes, found none"
                )
            rows = [{name: _value(name, text) for name, text in line.items()} for line in reader]
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); run the cross-validation or evaluation again"
        ) from None
    except (ValueError, csv.Error, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: not a table of images ({error}); run the cross-validation or evaluation again"
        ) from None
    return [{"id": row.get("image"), **row} for row in rows]


def _value(name: str | None, text: str | None) -> Any:
    if text is None or name is None:
        raise ValueError(f"a line is {'cut short' if text is None else 'too long'}")
    if name == "fold":
        return int(text) if text.isdigit() else text
    return csv_value(text) if name in NAMES or name.endswith(FOUND) else float(text or "nan")
