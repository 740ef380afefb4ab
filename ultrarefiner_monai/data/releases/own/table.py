"""A table of one's own: patient, class, split or fold of each image, in columns of any name and with any separator."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.own.entries import SPLITS
from ultrarefiner_monai.data.releases.readers.tables import read_lines
from ultrarefiner_monai.errors import DataError, did_you_mean, raise_problems, shown
from ultrarefiner_monai.files import regular

USUAL = {  # names of columns, without case and what is no letter
    "image": "image imageid imagename imagefile imagepath img id file filename name path",
    "patient": "patient patientid patientcode patientname case caseid subject subjectid pid",
    "class": "class label pathology diagnosis classification",
    "split": "split set subset partition",
    "fold": "fold kfold",
}
LABELS = {
    "benign": "benign",
    "b": "benign",
    "malignant": "malignant",
    "m": "malignant",
    "normal": "normal",
    "n": "normal",
    "unknown": "unknown",
    "": "unknown",
}
SEPARATORS = ",;\t|"
HEADER = 2048  # letters of the first line that tell the separator; the search takes a second for some lines of 20 000

Row = dict[str, str]


def read_own_table(path: Path, columns: Mapping[str, str], images: Sequence[str]) -> tuple[dict[str, Row], list[str]]:
    """What a table tells of each image, by its path, and what its user should know of it.

    Args:
        path: a CSV file in UTF-8; commas, semicolons, tabs and bars separate.
        columns: its own name of a column, by "image", "patient", "class", "split" or "fold"; others are found by usual names.
        images: relative paths. A row names its image by that, by the file's name, or by the name without suffix.

    Returns:
        A row for each image with the columns that there are; classes, splits ("train", "val", "test" or "") and folds
        ("1", "2", ... or "") in our own words.

    Raises:
        DataError: no such file or column, an image without a row, rows that contradict each other, or values that are none.
    """
    header, *lines = read_lines(path, _separator(path)) or [[]]
    places = {what: header.index(name) for what, name in _columns(path, header, columns).items()}
    keys = images_by_call(images)
    rows: dict[str, Row] = {}
    problems, strangers = [], []
    for number, values in enumerate(lines, start=2):
        if len(values) != len(header):
            problems.append(f"row {number}: expected {len(header)} values, found {len(values)}")
            continue
        row = {what: values[place] for what, place in places.items()}
        name = row.pop("image")
        found = keys.get(PurePosixPath(name.replace("\\", "/")).as_posix() if name else "", [])
        if len(found) != 1:
            strangers.append(name)
            problems += [f"row {number}: {name!r} may be {shown(found, 3, ' or ')}; give its path"] if found else []
            continue
        problems += [f"row {number}: {fault}" for fault in _made_ours(row)]
        if rows.setdefault(found[0], row) != row:
            problems.append(f"row {number}: {name} has another row with other values")
    if missing := [image for image in images if image not in rows]:
        near = did_you_mean(PurePosixPath(missing[0]).stem, strangers) if strangers else "the table has fewer rows"
        hint = near if near.startswith("did you mean") else f"rows without an image: {shown(strangers, 3) or 'none'}"
        problems.insert(0, f"no row for {len(missing)} of {len(images)} images: {shown(missing, 3)}; {hint}")
    raise_problems(str(path), problems)
    folds = sorted({row["fold"] for row in rows.values() if row.get("fold")}, key=lambda fold: (len(fold), fold))
    for row in rows.values():
        if row.get("fold"):
            row["fold"] = str(1 + folds.index(row["fold"]))
    return rows, [f"{len(strangers)} rows of {path.name} are of no image: {shown(strangers, 3)}"] if strangers else []


def _separator(path: Path) -> str:
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            return csv.Sniffer().sniff(file.readline(HEADER), SEPARATORS).delimiter
    except (OSError, UnicodeDecodeError, csv.Error):
        return ","  # one column, or no table, which its reader tells


def _columns(path: Path, header: Sequence[str], told: Mapping[str, str]) -> dict[str, str]:
    """The table's own name of each column that it has."""
    found: dict[str, str] = {}
    for what, usual in USUAL.items():
        if what in told:
            if told[what] not in header:
                raise DataError(
                    f"{path}: no column {told[what]!r} (--{what}_column): {did_you_mean(told[what], header)}"
                )
            found[what] = told[what]
            continue
        free = (name for name in header if name not in told.values())
        named = [name for name in free if re.sub(r"[\W_]", "", name).casefold() in usual.split()]
        if len(named) > 1 and what != "image":
            raise DataError(f"{path}: {what} may be {' or '.join(named)}; name it with --{what}_column")
        found |= {what: named[0]} if named else {}
    if "image" not in found:
        raise DataError(
            f"{path}: no column names the images; name it with --image_column: {shown(header, 8) or 'none'}"
        )
    if len(found) == 1:
        raise DataError(
            f"{path}: no column tells patient, class, split or fold; name it, as with --patient_column: {shown(header, 8)}"
        )
    return found


def images_by_call(images: Iterable[str]) -> dict[str, list[str]]:
    """Images, relative or absolute paths, by all that a row may call them: path, name, both without suffix."""
    keys: dict[str, list[str]] = {}
    for image in images:
        path = PurePosixPath(image)
        for key in {
            image,
            path.with_suffix("").as_posix(),
            path.name,
            path.stem,
            path.stem.removesuffix("_0000"),
        }:  # nnU-Net
            keys.setdefault(key, []).append(image)
    return keys


def _made_ours(row: Row) -> list[str]:
    """Put our own words for a class and a split into a row; says what is wrong with other values."""
    faults = []
    for what, known in (("class", LABELS), ("split", {**SPLITS, "": ""})):
        value = row.get(what, "")
        if what in row and value.casefold() not in known:
            faults.append(
                f"{what}: expected one of {', '.join(dict.fromkeys(filter(None, known.values())))}, found {value!r}"
            )
        elif what in row:
            row[what] = known[value.casefold()]
    return faults
