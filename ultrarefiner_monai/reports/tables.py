"""Coarse, refined and their difference in numbers: of all images, by fold, class, lesion size and data set."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ultrarefiner_monai.cross_validation.scores import TEST
from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.metrics.scores import CHANGE, summarise_rows, unit_of
from ultrarefiner_monai.metrics.segmentation import DISTANCES, MEANS
from ultrarefiner_monai.reports.statistics import Estimate, mean_by_patient, ratio_by_patient, signed_rank

OUT_OF_FOLD = "out-of-fold"
PLACES = (OUT_OF_FOLD, TEST)
SIZES = ("small", "middle", "large")
STAGES = ("coarse", "refined", "delta")
SENSITIVITY, FALSE_LESIONS = "lesion_sensitivity", "false_lesions"

Table = dict[str, Any]
Group = tuple[str, str, list[Row]]  # what it is taken by, its name, its images


def place_of(row: Row) -> str:
    """Where an image was scored: "out-of-fold" by the model that never saw it, or in the "test" set by all folds' models."""
    return TEST if row["fold"] == TEST else OUT_OF_FOLD


def stage_table(rows: Sequence[Row], seed: int = 0, tests: bool = False) -> Table:
    """What refining does to these images.

    Args:
        rows: of one phase and place; with coarse scores only (phase 1), or both.
        seed: of the intervals.
        tests: also test each metric's differences, uncorrected (`p`).

    Returns:
        `images`, `patients`, `unit` of distances, `changes` (shares of images whose Dice falls or rises by more than
        0.02), and a list of `metrics`: `metric`, an estimate for each of `coarse`, `refined` and `delta`, `undefined`
        images of coarse and refined.
    """
    patients = [row["patient"] for row in rows]
    lines = [_line(rows, name, patients, seed, tests) for name in MEANS if _has(rows, name)]
    lines += [_sensitivity(rows, patients, seed)] if _has(rows, "lesions_found") else []
    lines += [_line(rows, FALSE_LESIONS, patients, seed, tests=False)] if _has(rows, FALSE_LESIONS) else []
    summary = summarise_rows(rows)
    changes = {name: summary[name] for name in ("worse_share", "better_share") if name in summary}
    counts = {"images": len(rows), "patients": len(set(patients)), "unit": unit_of(rows)}
    return {**counts, "changes": changes, "metrics": lines}


def metric_of(table: Table, name: str) -> Table:
    """The line of a metric in a `stage_table`, empty where it has none."""
    return next((line for line in table["metrics"] if line["metric"] == name), {})


def groups(rows: Sequence[Row], cuts: Sequence[float]) -> list[Group]:
    """The images by class, by lesion size and, where there are several, by data set.

    Args:
        rows: of one phase and place.
        cuts: of `size_cuts`.
    """
    found = [("class", name, chosen) for name, chosen in _split(rows, lambda row: str(row["class"]))]
    if cuts and all("lesion_share" in row for row in rows):
        by_size = dict(_split(rows, lambda row: size_of(row, cuts)))
        found += [("lesion size", name, by_size[name]) for name in SIZES if name in by_size]
    by_name = _split(rows, lambda row: str(row["dataset"]))
    return found + ([("data set", name, chosen) for name, chosen in by_name] if len(by_name) > 1 else [])


def size_cuts(rows: Iterable[Row]) -> list[float]:
    """The two lesion areas (shares of the picture) that part the images with a lesion into thirds; none without lesions."""
    shares = [row["lesion_share"] for row in rows if row.get("lesion_share", 0) > 0]
    return np.quantile(shares, [1 / 3, 2 / 3]).tolist() if shares else []


def size_of(row: Row, cuts: Sequence[float]) -> str:
    """Third of an image's lesion area; "none" without a lesion."""
    return SIZES[int(np.searchsorted(cuts, row["lesion_share"]))] if row["lesion_share"] > 0 else "none"


def fold_table(rows: Sequence[Row]) -> list[Table]:
    """Means of each fold's validation images, then the mean and deviation (n - 1) over folds."""
    lines: list[Table] = []
    for fold, chosen in _split([row for row in rows if place_of(row) == OUT_OF_FOLD], lambda row: row["fold"]):
        summary = summarise_rows(chosen)
        numbers = {name: value for name, value in summary.items() if not name.endswith("_undefined")}
        lines.append({"fold": fold, "images": len(chosen), **numbers})
    if len(lines) < 2:
        return lines
    over: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "sd": lambda values: np.std(values, ddof=1)}
    names = [name for name in lines[0] if name not in ("fold", "images")]
    head = {"images": sum(line["images"] for line in lines)}
    over_folds = [
        {"fold": word, **head, **{name: float(take([line[name] for line in lines])) for name in names}}
        for word, take in over.items()
    ]
    return lines + over_folds


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """Values (N,) of a score; distances in another unit than the table's are NaN."""
    values = np.array([float(row[name]) for row in rows])
    if name.endswith(DISTANCES):
        values[[row.get("unit", "px") != unit_of(rows) for row in rows]] = math.nan
    return values


def difference(rows: Sequence[Row], name: str) -> np.ndarray:
    """Refined - coarse (N,) of a metric, NaN where either is undefined."""
    return column(rows, f"refined_{name}") - column(rows, f"coarse_{name}")


def is_worse(row: Row) -> bool:
    """Whether refining lowers an image's Dice by more than 0.02, to single precision's digits."""
    return "refined_dice" in row and round(row["refined_dice"] - row["coarse_dice"], 6) < -CHANGE


def _has(rows: Sequence[Row], name: str) -> bool:
    return bool(rows) and f"coarse_{name}" in rows[0]


def _line(rows: Sequence[Row], name: str, patients: Sequence[Any], seed: int, tests: bool) -> Table:
    stages = {stage: column(rows, f"{stage}_{name}") for stage in STAGES if f"{stage}_{name}" in rows[0]}
    undefined = {stage: int(np.isnan(values).sum()) for stage, values in stages.items()}
    if "refined" in stages:
        stages["delta"] = difference(rows, name)
    line = {"metric": name, "undefined": undefined} | _estimates(
        {stage: mean_by_patient(values, patients, seed) for stage, values in stages.items()}
    )
    return line | {"p": signed_rank(stages["delta"], patients)} if tests and "delta" in stages else line


def _sensitivity(rows: Sequence[Row], patients: Sequence[Any], seed: int) -> Table:
    """Lesions found / lesions, over all lesions."""
    lesions = column(rows, "lesions")
    found = {stage: column(rows, f"{stage}_lesions_found") for stage in STAGES if f"{stage}_lesions_found" in rows[0]}
    if "refined" in found:
        found["delta"] = found["refined"] - found["coarse"]
    estimates = {stage: ratio_by_patient(parts, lesions, patients, seed) for stage, parts in found.items()}
    return {"metric": SENSITIVITY, "undefined": {}, "lesions": int(lesions.sum())} | _estimates(estimates)


def _estimates(found: Mapping[str, Estimate]) -> Table:
    return {stage: asdict(estimate) for stage, estimate in found.items()}


def _split(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Rows by a key, sorted by it."""
    parts: dict[Any, list[Row]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return sorted(parts.items())
