"""All systems side by side on the images that they have in common, with intervals and tests by patient.

    python benchmarks/systems.py --method NAME FILE OUTPUT WHERE [--method ...] [--fold 0] --out docs/results/systems

FILE holds rows of images (`per_image.csv` of a training, an evaluation or a cross-validation), OUTPUT is the column's prefix,
such as `refined` for `refined_dice`, or `-` for none; WHERE is `column=value` of the rows that are meant, or `-` for all. Each
method is compared with the first. `--fold` keeps the rows of one fold, where a file tells folds. Written are OUT.csv, a line an
image and method, and OUT.md, the table: Dice, HD95 in pixels, the change of Dice, p of a signed-rank test by patient, after
Holm's correction, and the share of images that get worse and better by more than 0.02.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.reports.statistics import Estimate, holm, mean_by_patient, signed_rank
from ultrarefiner_monai.texts import csv_text

CHANGE = 0.02  # of Dice, from which an image is worse or better
SCORES = ("dice", "hd95")
HEADER = "| method | Dice | HD95 (px) | change of Dice | p (Holm) | worse | better |"

Row = dict[str, Any]


def rows_of(name: str, file: str, output: str, where: str, fold: str) -> dict[str, Row]:
    """The rows of a method by the name of the image, without folder and suffix."""
    column, _, value = where.partition("=")
    prefix = "" if output == "-" else f"{output}_"
    found = {}
    with Path(file).open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("fold", fold) == fold]
    for row in rows:
        if where == "-" or row[column] == value:
            image = Path(row.get("image") or row["id"]).stem
            about = {"method": name, "image": image, "patient": row["patient"], "class": row["class"], "fold": fold}
            found[image] = about | {score: float(row[f"{prefix}{score}"] or "nan") for score in SCORES}
    return found


def said(found: Estimate, digits: int, sign: str = "") -> str:
    """A mean with its interval."""
    return f"{found.value:{sign}.{digits}f} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"


def main() -> None:
    """Write the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--method", nargs=4, action="append", required=True, metavar=("NAME", "FILE", "OUTPUT", "WHERE")
    )
    parser.add_argument("--fold", default="0")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    methods = {method[0]: rows_of(*method, asked.fold) for method in asked.method}
    shared = sorted(set.intersection(*map(set, methods.values())))
    first = next(iter(methods.values()))
    patients = [first[image]["patient"] for image in shared]
    scores = {
        name: {score: np.array([rows[image][score] for image in shared]) for score in SCORES}
        for name, rows in methods.items()
    }
    changes = {name: of["dice"] - scores[next(iter(methods))]["dice"] for name, of in scores.items()}
    p_values = holm([signed_rank(change, patients) for change in list(changes.values())[1:]])
    lines = [f"{len(shared)} images of {len(set(patients))} patients.", "", HEADER, "| --- " * 7 + "|"]
    for (name, of), p in zip(scores.items(), [None, *p_values], strict=True):
        change = changes[name]
        cells = [said(mean_by_patient(of["dice"], patients), 4), said(mean_by_patient(of["hd95"], patients), 1)]
        cells += ["", "", "", ""]
        if p is not None:
            shares = [f"{100 * np.mean(each > CHANGE):.1f} %" for each in (-change, change)]
            cells[2:] = [said(mean_by_patient(change, patients), 4, "+"), f"{p:.2g}", *shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rows = [methods[name][image] for name in methods for image in shared]
    write_atomically(asked.out.with_suffix(".csv"), csv_text(rows, list(rows[0])).encode())
    write_atomically(asked.out.with_suffix(".md"), ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
