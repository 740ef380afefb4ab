"""The outputs and their difference in numbers: of all images, by fold, class, lesion size and data set, what got worse, classes.

The first output is the baseline, the last is what users get; what came between is shown, and `delta` is last - first.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np

from ultrarefiner_monai.cross_validation.scores import TEST
from ultrarefiner_monai.metrics.classes import FOUND, RATES, classes_of, known_rows, told
from ultrarefiner_monai.metrics.scores import (
    CHANGE,
    Row,
    column,
    outputs_of,
    over_folds,
    over_same_images,
    summarise_rows,
    unit_of,
)
from ultrarefiner_monai.metrics.segmentation import MEANS
from ultrarefiner_monai.reports.statistics import mean_by_patient, ratio_by_patient, signed_rank, statistic_by_patient
from ultrarefiner_monai.systems import all_stages

OUT_OF_FOLD = "out-of-fold"
PLACES = (OUT_OF_FOLD, TEST)
SIZES = ("small", "middle", "large")
SENSITIVITY, FALSE_LESIONS = "lesion_sensitivity", "false_lesions"
POOR = 0.5  # Dice of the first output: below it less than half of what both masks cover is shared, and prompts point elsewhere
NOTABLE = 1.5  # times as frequent as among all images
LEAST = 3  # images, fewer say nothing

Table = dict[str, Any]


class Group(NamedTuple):
    """Images that have something in common: what it is, and its value."""

    by: str
    name: str
    rows: list[Row]


class Trait(TypedDict):
    """How often something is so: number of the images that got worse, shares of them and of all."""

    trait: str
    images: int
    worse: float | None
    all: float | None


def place_of(row: Row) -> str:
    """Where an image was scored: "out-of-fold" by the model that never saw it, or in the "test" set by all folds' models."""
    return TEST if row["fold"] == TEST else OUT_OF_FOLD


def stages_of(rows: Iterable[Row]) -> list[str]:
    """The stages that rows are of, in the order of their training; those that no system has come first."""
    order = {name: number for number, name in enumerate(all_stages())}
    return sorted({row["phase"] for row in rows if "phase" in row}, key=lambda name: (order.get(name, -1), name))


def output_table(rows: Sequence[Row], seed: int = 0, tests: bool = False) -> Table:
    """What the outputs are worth on these images, and what the last one gains.

    Args:
        rows: of one stage and place.
        seed: of the intervals.
        tests: also test each metric's differences, uncorrected (`p`).

    Returns:
        `images`, `patients`, `unit` of distances, `changes` (shares of images whose Dice falls or rises by more than
        0.02), and a list of `metrics`: `metric`, an estimate for each output and `delta`, all over the images where every
        output has the metric, and the `undefined` images of each output.
    """
    patients = [row["patient"] for row in rows]
    outputs, names = outputs_of(rows[0]), rows[0].keys()
    means = [name for name in MEANS if f"{outputs[0]}_{name}" in names]
    lines = [_line(rows, outputs, name, patients, seed, tests) for name in means]
    if f"{outputs[0]}_lesions_found" in names:
        lines.append(_sensitivity(rows, outputs, patients, seed))
    if f"{outputs[0]}_{FALSE_LESIONS}" in names:
        lines.append(_line(rows, outputs, FALSE_LESIONS, patients, seed, tests=False))
    summary = summarise_rows(rows)
    changes = {name: summary[name] for name in ("worse_share", "better_share") if name in summary}
    counts = {"images": len(rows), "patients": len(set(patients)), "unit": unit_of(rows)}
    return {**counts, "changes": changes, "metrics": lines}


def metric_of(table: Table, name: str) -> Table:
    """The line of a metric in an `output_table`, empty where it has none."""
    return next((line for line in table["metrics"] if line["metric"] == name), {})


def groups(rows: Sequence[Row], cuts: Sequence[float]) -> list[Group]:
    """The images by class, by lesion size and, where there are several, by data set.

    Args:
        rows: of one stage and place.
        cuts: of `size_cuts`.
    """
    found = [Group("class", name, chosen) for name, chosen in _split(rows, lambda row: str(row["class"]))]
    if cuts and all("lesion_share" in row for row in rows):
        by_size = dict(_split(rows, lambda row: size_of(row, cuts)))
        found += [Group("lesion size", name, by_size[name]) for name in SIZES if name in by_size]
    by_name = _split(rows, lambda row: str(row["dataset"]))
    return found + ([Group("data set", name, chosen) for name, chosen in by_name] if len(by_name) > 1 else [])


def size_cuts(rows: Iterable[Row]) -> list[float]:
    """The two lesion areas (shares of the image) that part the images with a lesion into thirds; none without lesions."""
    shares = [row["lesion_share"] for row in rows if row.get("lesion_share", 0) > 0]
    return np.quantile(shares, [1 / 3, 2 / 3]).tolist() if shares else []


def size_of(row: Row, cuts: Sequence[float]) -> str:
    """Third of an image's lesion area; "none" without a lesion."""
    return SIZES[int(np.searchsorted(cuts, row["lesion_share"]))] if row["lesion_share"] > 0 else "none"


def fold_table(rows: Sequence[Row]) -> list[Table]:
    """Means of each fold's validation images and their counts, then the mean and deviation (n - 1) over folds."""
    lines: list[Table] = []
    for fold, chosen in _split([row for row in rows if place_of(row) == OUT_OF_FOLD], lambda row: row["fold"]):
        summary = summarise_rows(chosen)
        numbers = {name: value for name, value in summary.items() if not name.endswith("_undefined")}
        lines.append({"fold": fold, "images": len(chosen), **numbers})
    names = [name for name in lines[0] if name not in ("fold", "images")] if lines else []
    return lines + over_folds(lines, names)


def worse_table(rows: Sequence[Row], cuts: Sequence[float]) -> Table:
    """The images whose Dice the last output lowers by more than 0.02, worst first, and how often they have certain traits.

    Args:
        rows: of one stage with two outputs or more.
        cuts: of `size_cuts`.

    Returns:
        `limit`, number of `images` and of those they are `of`, `rows`, `traits` (`trait`, shares among the `worse` and
        among `all` images, number of `images`), and a `reading` in words.
    """
    outputs = outputs_of(rows[0])
    gains = {id(row): row[f"{outputs[-1]}_dice"] - row[f"{outputs[0]}_dice"] for row in rows}
    # To single precision's digits: 0.50 - 0.52 is no change beyond 0.02.
    found = sorted((row for row in rows if round(gains[id(row)], 6) < -CHANGE), key=lambda row: gains[id(row)])
    traits = [
        Trait(trait=name, images=sum(map(has, found)), worse=_share(found, has), all=_share(rows, has))
        for name, has in _traits(outputs[0], cuts).items()
    ]
    return {
        "limit": CHANGE,
        "images": len(found),
        "of": sum(map(math.isfinite, gains.values())),
        "rows": [_entry(row, outputs, cuts) for row in found],
        "traits": traits,
        "reading": _reading(len(found), traits),
    }


def class_table(rows: Sequence[Row], seed: int = 0) -> Table:
    """What an output's classes are worth on these images; empty where it tells none apart.

    Args:
        rows: of one stage and place.
        seed: of the intervals.

    Returns:
        `output`, `classes`, `images` and `patients` whose class is one of them; `prior`, the most frequent `class` and its
        `share`, which is the accuracy of who always says it; `rates`, a list of `metric`, an estimate and the
        `undefined_resamples` that its interval leaves out (those without an image of each class have no AUC); `dice`, a list of
        `class`, an estimate and the `undefined` images; `confusion`, a list of `true` class and how often each was `found`.
    """
    output, names = classes_of(rows[0])
    if not names:
        return {}
    known, images = known_rows(rows), told(rows)
    patients = [row["patient"] for row in known]
    rates = []
    for name, rate in RATES.items():
        estimate, undefined = statistic_by_patient(partial(rate, images), patients, seed)
        rates.append({"metric": name, **asdict(estimate), "undefined_resamples": undefined})
    frequent = Counter(row["class"] for row in known).most_common(1)
    return {
        "output": output,
        "classes": list(names),
        "images": len(known),
        "patients": len(set(patients)),
        "prior": {"class": frequent[0][0], "share": frequent[0][1] / len(known)} if frequent else None,
        "rates": rates,
        "dice": [_class_dice(rows, output, name, seed) for name in names],
        "confusion": _confusion(rows, output, names),
    }


def _line(
    rows: Sequence[Row], outputs: Sequence[str], name: str, patients: Sequence[Any], seed: int, tests: bool
) -> Table:
    values = {output: column(rows, f"{output}_{name}") for output in outputs if f"{output}_{name}" in rows[0]}
    line: Table = {"metric": name, "undefined": {output: int(np.isnan(one).sum()) for output, one in values.items()}}
    values = over_same_images(values)
    values |= _delta(values, outputs)
    line |= {output: asdict(mean_by_patient(one, patients, seed)) for output, one in values.items()}
    return line | {"p": signed_rank(values["delta"], patients)} if tests and "delta" in values else line


def _sensitivity(rows: Sequence[Row], outputs: Sequence[str], patients: Sequence[Any], seed: int) -> Table:
    """Lesions found / lesions, over all lesions."""
    lesions, end = column(rows, "lesions"), "_lesions_found"
    found = {output: column(rows, output + end) for output in outputs if output + end in rows[0]}
    found |= _delta(found, outputs)
    shares = {output: asdict(ratio_by_patient(parts, lesions, patients, seed)) for output, parts in found.items()}
    return {"metric": SENSITIVITY, "undefined": {}, "lesions": int(lesions.sum())} | shares


def _class_dice(rows: Sequence[Row], output: str, name: str, seed: int) -> Table:
    values = column(rows, f"{output}_dice_{name}")
    estimate = asdict(mean_by_patient(values, [row["patient"] for row in rows], seed))
    return {"class": name, **estimate, "undefined": len(rows) - estimate["images"]}


def _confusion(rows: Sequence[Row], output: str, names: Sequence[str]) -> list[Table]:
    """A line each true class, those that are not told apart last."""
    others = sorted({row["class"] for row in rows} - {*names})
    counts = Counter((row["class"], row[f"{output}{FOUND}"]) for row in rows)
    return [{"true": true, "found": {name: counts[true, name] for name in names}} for true in (*names, *others)]


def _delta(values: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Last - first output, where there are both."""
    both = len(outputs) > 1 and values.keys() >= {outputs[0], outputs[-1]}
    return {"delta": values[outputs[-1]] - values[outputs[0]]} if both else {}


def _split(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Rows by a key, sorted by it."""
    parts: dict[Any, list[Row]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return sorted(parts.items())


def _traits(first: str, cuts: Sequence[float]) -> dict[str, Callable[[Row], bool]]:
    traits: dict[str, Callable[[Row], bool]] = {
        f"{first} Dice below {POOR}": lambda row: row[f"{first}_dice"] < POOR,
        f"blank {first} mask (no prompt)": lambda row: _is_blank(row, first),
        f"{first} mask with a finding that is no lesion": lambda row: row.get(f"{first}_false_lesions", 0) > 0,
        "more than one lesion": lambda row: row.get("lesions", 0) > 1,
        "malignant": lambda row: row["class"] == "malignant",
    }
    return traits | {f"{size} lesion": partial(_has_size, size, cuts) for size in SIZES if cuts}


def _has_size(size: str, cuts: Sequence[float], row: Row) -> bool:
    return "lesion_share" in row and size_of(row, cuts) == size


def _is_blank(row: Row, output: str) -> bool:
    """Precision is undefined for a blank mask and for no other."""
    return math.isnan(row.get(f"{output}_precision", 0.0))


def _share(rows: Sequence[Row], has: Callable[[Row], bool]) -> float | None:
    return sum(map(has, rows)) / len(rows) if rows else None


def _entry(row: Row, outputs: Sequence[str], cuts: Sequence[float]) -> Table:
    first, last = outputs[0], outputs[-1]
    names = ("dataset", "id", "patient", "class", "fold", *(f"{output}_dice" for output in outputs))
    return {
        **{name: row.get(name) for name in (*names, "lesion_share", "lesions")},
        "place": place_of(row),
        "delta_dice": row[f"{last}_dice"] - row[f"{first}_dice"],
        "size": size_of(row, cuts) if cuts and "lesion_share" in row else None,
        f"{first}_blank": _is_blank(row, first),
        f"{first}_false_lesions": row.get(f"{first}_false_lesions"),
    }


def _reading(images: int, traits: Sequence[Trait]) -> str:
    if not images:
        return "No image got worse by more than that."
    rates = {trait["trait"]: (trait["worse"] or 0, trait["all"] or 0) for trait in traits if trait["images"] >= LEAST}
    telling = {name: (worse, every) for name, (worse, every) in rates.items() if worse >= NOTABLE * every > 0}
    if not telling:
        return "No trait looked at is markedly more frequent among them than among all images."
    said = ", ".join(
        f"{name} ({100 * worse:.0f} % of them, {100 * every:.0f} % of all images)"
        for name, (worse, every) in sorted(telling.items(), key=lambda one: one[1][1] / one[1][0])
    )
    return f"More frequent among them than among all images: {said}. This is a description, not a proof of a cause."
