"""AutoMedSAM beside UltraRefiner on the same folds and test images, image by image.

    python benchmarks/automedsam_study.py ULTRAREFINER.csv STUDY [STUDY ...] --out docs/results/automedsam

ULTRAREFINER.csv holds the rows of a cross-validation's phases 2 and 3 (phase 2's coarse mask is that of phase 1), each STUDY
the folder of a cross-validation of AutoMedSAM. Written are OUT.csv, a line an image and method, and OUT.md, the tables: scores
with intervals by patient, the change against UltraRefiner's output, and what becomes of the images that the coarse network
missed (Dice below 0.1).
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.reports.statistics import Estimate, mean_by_patient, signed_rank
from ultrarefiner_monai.texts import csv_text

METHODS = {"phase 1": ("phase2", "coarse"), "phase 3": ("phase3", "refined")}  # of UltraRefiner: rows and output
MISSED, FOUND = 0.1, 0.5  # Dice
PLACES = {"folds": lambda fold: fold != "test", "test": lambda fold: fold == "test"}

Row = dict[str, Any]


def rows_of(name: str, rows: Iterable[Row], output: str) -> list[Row]:
    """Names and scores of one output, as `method`'s rows."""
    kept = ("image", "patient", "class", "fold")
    return [
        {"method": name, **{key: row[key] for key in kept}}
        | {metric: row[f"{output}_{metric}"] for metric in ("dice", "hd95")}
        for row in rows
    ]


def table(rows: Sequence[Row], methods: Sequence[str]) -> list[str]:
    """Dice and HD95 of each method over the folds and on the test images, and its change against the first."""
    lines = ["| method | images | Dice | HD95 (px) | against " + methods[0] + " | p |", "| --- " * 6 + "|"]
    for place, belongs in PLACES.items():
        by_method = {
            name: {r["image"]: r for r in rows if r["method"] == name and belongs(r["fold"])} for name in methods
        }
        shared = sorted(set.intersection(*(set(found) for found in by_method.values())))
        patients = [by_method[methods[0]][name]["patient"] for name in shared]
        first = np.array([by_method[methods[0]][name]["dice"] for name in shared])
        for name, found in by_method.items():
            dice, hd95 = (np.array([found[one][key] for one in shared]) for key in ("dice", "hd95"))
            change = f"{said(mean_by_patient(dice - first, patients), '+')} | {signed_rank(dice - first, patients):.2g}"
            cells = (said(mean_by_patient(dice, patients)), said(mean_by_patient(hd95, patients), digits=1))
            lines.append(
                f"| {name}, {place} | {len(shared)} | {' | '.join(cells)} | {change if name != methods[0] else ' | '} |"
            )
    return lines


def said(found: Estimate, sign: str = "", digits: int = 4) -> str:
    """A mean with its interval."""
    return f"{found.value:{sign}.{digits}f} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def missed(rows: Sequence[Row], methods: Sequence[str]) -> list[str]:
    """What each method makes of the images whose coarse mask misses the lesion."""
    coarse = [row for row in rows if row["method"] == "phase 1" and row["dice"] < MISSED]
    lines = [f"| method | missed by phase 1 | Dice >= {MISSED} | Dice >= {FOUND} | mean Dice |", "| --- " * 5 + "|"]
    for place, belongs in PLACES.items():
        names = {row["image"] for row in coarse if belongs(row["fold"])}
        for method in methods:
            dice = np.array([r["dice"] for r in rows if r["method"] == method and r["image"] in names])
            counts = (
                f"{(dice >= MISSED).sum()} | {(dice >= FOUND).sum()} | {dice.mean() if len(dice) else float('nan'):.3f}"
            )
            lines.append(f"| {method}, {place} | {len(names)} | {counts} |")
    return lines


def main() -> None:
    """Write the rows and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ultrarefiner", type=Path)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    earlier = read_rows(asked.ultrarefiner)
    rows = [
        row
        for name, (phase, output) in METHODS.items()
        for row in rows_of(name, [one for one in earlier if one["phase"] == phase], output)
    ]
    for study in asked.studies:
        rows += rows_of(study.name, read_rows(study / PER_IMAGE), "mask")
    methods = ["phase 3", "phase 1", *(study.name for study in asked.studies)]
    text = [*table(rows, methods), "", *missed(rows, methods)]
    write_atomically(asked.out.with_suffix(".csv"), csv_text(rows, list(rows[0])).encode())
    write_atomically(asked.out.with_suffix(".md"), ("\n".join(text) + "\n").encode())


if __name__ == "__main__":
    main()
