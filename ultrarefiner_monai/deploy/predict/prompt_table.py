"""Which lesions of which files a model is asked about: the tables of boxes and points that `predict` is given."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from ultrarefiner_monai.data.releases.own.table import images_by_call
from ultrarefiner_monai.data.releases.readers.tables import read_lines
from ultrarefiner_monai.errors import DataError, raise_problems, shown
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts
from ultrarefiner_monai.texts import csv_value

PromptsOf = Literal["boxes", "points"]
COLUMNS: dict[PromptsOf, tuple[str, ...]] = {"boxes": ("x1", "y1", "x2", "y2"), "points": ("x", "y")}


def read_prompts(path: Path, kind: PromptsOf, files: Sequence[Path]) -> dict[Path, LesionPrompts]:
    """Prompts of each file from a CSV table, a row a lesion.

    Args:
        path: a table in UTF-8 with the columns `file`, which names one of `files` by its path or name, and x1, y1, x2, y2 of
            boxes, inclusive, or x, y of points, in pixels whose centres are at integers.
        kind: "boxes" or "points".
        files: those that are predicted, each a picture.

    Raises:
        DataError: no such table or columns, rows of other files or of none, or values that are no box or point.
    """
    columns = COLUMNS[kind]
    header, *lines = read_lines(path) or [[]]
    if not {"file", *columns} <= set(header) or len(set(header)) < len(header):
        raise DataError(
            f"--{kind} {path}: expected columns file, {', '.join(columns)}, each once, found {shown(header, 8) or 'nothing'}"
        )
    named = images_by_call(file.as_posix() for file in files)
    found: dict[Path, list[list[float]]] = defaultdict(list)
    problems = []
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(header):
            problems.append(f"row {number}: expected {len(header)} values, found {len(cells)}")
            continue
        row = dict(zip(header, map(csv_value, cells), strict=True))
        meant = named.get(PurePosixPath(row["file"].replace("\\", "/")).as_posix() if row.get("file") else "", [])
        if len(meant) != 1:
            problems.append(f"row {number}: {row.get('file', '')!r} is {_which(meant)}")
            continue
        values = [_number(row.get(column, "")) for column in columns]
        if fault := _fault(values):
            problems.append(f"row {number}: {fault}")
        found[Path(meant[0])].append(values)
    raise_problems(f"--{kind} {path}", problems)
    return {file: _prompts(kind, rows) for file, rows in found.items()}


def _which(meant: Sequence[str]) -> str:
    return f"{shown(meant, 3, ' or ')}; give its path" if meant else "none of the files that are predicted"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _fault(values: Sequence[float]) -> str:
    """What is wrong with a box or a point; empty where nothing is."""
    if not all(map(math.isfinite, values)):
        return "expected numbers in pixels"
    if len(values) == len(COLUMNS["boxes"]) and (values[2] < values[0] or values[3] < values[1]):
        return "expected x1 <= x2 and y1 <= y2"
    return ""


def _prompts(kind: PromptsOf, rows: Sequence[Sequence[float]]) -> LesionPrompts:
    values, image = torch.tensor(rows), torch.zeros(len(rows), dtype=torch.long)
    if kind == "boxes":
        return LesionPrompts(image, boxes=values)
    return LesionPrompts(image, points=values[:, None], labels=torch.ones(len(rows), 1, dtype=torch.long))


def prompts_within(prompts: Mapping[Path, LesionPrompts], file: Path, shape: tuple[int, int]) -> LesionPrompts:
    """The prompts of a picture of `shape` (H, W), boxes cut to it.

    Raises:
        DataError: there are none, or one lies outside of the picture.
    """
    if file not in prompts:
        raise DataError(f"{file}: no row says which lesions are meant")
    found = prompts[file]
    height, width = shape
    last = torch.tensor([width - 1, height - 1])
    first, end = (found.boxes[:, :2], found.boxes[:, 2:]) if found.boxes is not None else (found.points[:, 0],) * 2  # type: ignore[index]
    outside = ((end < 0) | (first > last)).any(1)
    if outside.any():
        raise DataError(f"{file}: prompt {1 + int(outside.nonzero()[0])} lies outside of its {width} x {height} pixels")
    if found.boxes is None:
        return found
    return found._replace(boxes=found.boxes.clamp(min=0).minimum(last.repeat(2)))
