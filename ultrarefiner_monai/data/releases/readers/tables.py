"""Tables of a release: CSV files that tell patients, classes and folds of its images."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ultrarefiner_monai.errors import DataError, raise_problems, shown
from ultrarefiner_monai.files import regular

Row = dict[str, str]


def read_table(path: Path, key: str, columns: Mapping[str, Sequence[str]], separator: str = ",") -> dict[str, Row]:
    """Rows of a CSV file (UTF-8, with or without a byte-order mark) by their value in the column `key`.

    Args:
        path: the file.
        key: column that names the image, different in each row.
        columns: other columns that must be filled, with the values each may take (in lower case, and so returned), or
            nothing where any value will do.
        separator: between two values.

    Raises:
        DataError: the file is missing or no text, has other columns or another separator, or bad rows (all are listed).
    """
    header, *lines = read_lines(path, separator) or [[]]
    if not {key, *columns} <= set(header):
        raise DataError(
            f"{path}: expected columns {', '.join([key, *columns])} separated by {separator!r},"
            f" found {', '.join(header) or 'nothing'}; copy it again from the release"
        )
    rows: dict[str, Row] = {}
    problems = []
    for number, values in enumerate(lines, start=2):
        if len(values) != len(header):
            problems.append(f"row {number}: expected {len(header)} values, found {len(values)}")
            continue
        row = dict(zip(header, values, strict=True))
        problems += [f"row {number}: {fault}" for fault in _faults(row, {key: (), **columns})]
        if row[key] in rows:
            problems.append(f"row {number}: {row[key]} has a row already")
        rows[row[key]] = row | {column: row[column].lower() for column, allowed in columns.items() if allowed}
    raise_problems(str(path), problems)
    return rows


def check_complete(path: Path, rows: Iterable[str], images: Iterable[str]) -> None:
    """Raise `DataError` naming the images that the table at `path` has no row for."""
    if missing := sorted(set(images) - set(rows)):
        raise DataError(f"{path}: no row for {shown(missing, 8)}; copy the complete table from the release")


def read_lines(path: Path, separator: str = ",") -> list[list[str]]:
    """Values of all rows but blank ones, the header first, without spaces around them.

    Raises `DataError` where the file is missing or no text.
    """
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            return [[value.strip() for value in row] for row in csv.reader(file, delimiter=separator) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(f"{path}: cannot be read as a UTF-8 table ({reason}); copy it from the release") from None


def _faults(row: Row, columns: Mapping[str, Sequence[str]]) -> list[str]:
    faults = []
    for column, allowed in columns.items():
        if not row[column]:
            faults.append(f"{column} is empty")
        elif allowed and row[column].lower() not in allowed:
            faults.append(f"{column}: expected {', '.join(allowed)}, found {row[column]!r}")
    return faults
