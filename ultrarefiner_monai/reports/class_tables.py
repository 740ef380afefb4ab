"""How often the classes of images are right: rates with intervals by patient, confusions, Dice of each class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from ultrarefiner_monai.metrics.classes import FOUND, RATES, classes_of, known_rows, told
from ultrarefiner_monai.metrics.scores import Row, column
from ultrarefiner_monai.reports.statistics import mean_by_patient, statistic_by_patient

Table = dict[str, Any]


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
        "dice": [_dice(rows, output, name, seed) for name in names],
        "confusion": _confusion(rows, output, names),
    }


def _dice(rows: Sequence[Row], output: str, name: str, seed: int) -> Table:
    values = column(rows, f"{output}_dice_{name}")
    estimate = asdict(mean_by_patient(values, [row["patient"] for row in rows], seed))
    return {"class": name, **estimate, "undefined": len(rows) - estimate["images"]}


def _confusion(rows: Sequence[Row], output: str, names: Sequence[str]) -> list[Table]:
    """A line each true class, those that are not told apart last."""
    others = sorted({row["class"] for row in rows} - {*names})
    counts = Counter((row["class"], row[f"{output}{FOUND}"]) for row in rows)
    return [{"true": true, "found": {name: counts[true, name] for name in names}} for true in (*names, *others)]
